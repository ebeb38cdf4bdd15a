"""Law: a manifest is read in one way. Whatever its settings say, loading and mounting answer alike, or both refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import adapterkit as ak
from adapterkit.artifact import open_artifact
from adapterkit.errors import AdapterkitError
from tests.artifact.mutations import MANIFEST, resign
from tests.host import artifacts
from tests.host.artifacts import Recipe, differences, row_of
from tests.host.conftest import FolderOf

CASES = {
    "lora": Recipe("text-classification", "lora", "linear-mean"),
    "bottleneck": Recipe("text-classification", "houlsby", "mlp-first"),
    "ia3": Recipe("token-classification", "ia3", "family"),
}
MISSING = object()
VALUES: tuple[Any, ...] = (
    *(MISSING, None, True, False, 1, 2, 0.5, 4.0),
    *("auto", "mean", "first", "last", "family", "linear", "mlp", "attention"),
    *("houlsby", "pfeiffer", "parallel", "gelu", "identity", "all-linear", "lora_only", "pissa"),
    *(["attention.key"], ["feedforward.output"], [0], {"attention.query": 2}),
)


def settings_of(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for block in ("head", "method"):
        yield from ((block, field) for field in sorted(manifest[block]))


def answers(folder: Path, backbone: Any, host: Any, rows: list[dict[str, Any]]) -> tuple[list[Any], list[Any]] | None:
    """What the artifact answers loaded and mounted; None where both refuse it."""
    loaded: list[Any] | None = None
    try:
        with open_artifact(folder).adapted(backbone) as adapted:
            loaded = adapted.predict(rows)
        host.mount("it", folder)
    except AdapterkitError:
        with pytest.raises(AdapterkitError):
            host.mount("it", folder)
        assert loaded is None, "it loads, and cannot be mounted"
        return None
    mounted = host.predict([("it", row) for row in rows])
    host.unmount("it")
    return loaded, mounted


@pytest.mark.parametrize("name", CASES)
def test_loading_and_mounting_read_every_setting_alike(
    name: str, folder_of: FolderOf, tiny_backbones: Any, tmp_path: Path
) -> None:
    backbone, recipe = tiny_backbones["bert"], CASES[name]
    folder = Path(shutil.copytree(folder_of("bert", recipe), tmp_path / "artifact"))
    original = json.loads((folder / MANIFEST).read_bytes())
    rows = [row_of(recipe.kind, artifacts.WORDS[:7]), row_of(recipe.kind, artifacts.WORDS[9:12])]
    read, refused = 0, 0
    with ak.Host(backbone) as host:
        for block, field in settings_of(original):
            for value in VALUES:
                changed = json.loads(json.dumps(original))
                if value is MISSING:
                    del changed[block][field]
                elif changed[block][field] == value:
                    continue
                else:
                    changed[block][field] = value
                resign(folder, changed)
                found = answers(folder, backbone, host, rows)
                refused += found is None
                read += found is not None
                assert found is None or differences(*found) == [], f"{block}.{field}: {value!r}"
    assert read > 5
    assert refused > 100


@pytest.mark.parametrize("value", [MISSING, "auto"])
def test_a_pooling_that_is_left_open_is_refused(value: Any, folder_of: FolderOf, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folder_of("bert", CASES["lora"]), tmp_path / "artifact"))
    changed = json.loads((folder / MANIFEST).read_bytes())
    changed["head"].pop("pooling") if value is MISSING else changed["head"].update(pooling=value)
    resign(folder, changed)
    with pytest.raises(AdapterkitError) as caught:
        open_artifact(folder)
    (problem,) = caught.value.problems
    assert problem == (
        f"{MANIFEST}: head.pooling: found 'auto' or nothing, expected mean, first or last: what was built"
    )
