"""Artifacts of one recipe are checked once for what they share, and for nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapterkit.artifact import open_artifact
from adapterkit.artifact import remembered_checks as alike
from adapterkit.errors import ArtifactError
from adapterkit.recipe import LoraMethod
from tests.artifact.conftest import make, write
from tests.artifact.mutations import MANIFEST, resign


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Grows with every check of names and shapes; nothing is remembered from before."""
    monkeypatch.setattr(alike, "_passed", {})
    seen: list[Any] = []
    plain = alike.check_contents
    monkeypatch.setattr(alike, "check_contents", lambda *given: (seen.append(given), plain(*given)))
    return seen


def test_the_second_artifact_of_a_recipe_is_not_checked_for_the_same_again(
    tmp_path: Path, tiny_backbones: Any, checks: list[Any]
) -> None:
    folders = []
    for number in range(2):
        with make(tiny_backbones["bert"]) as adapted:
            named = adapted.headed.trained["classifier.bias"]
            named.data += number
            folders.append(write(tmp_path / str(number), adapted, seed=number))
    one, two = map(open_artifact, folders)
    assert len(checks) == 1
    assert one.config is two.config
    assert one.manifest.sha256 != two.manifest.sha256
    name = next(name for name in one.state if name.endswith("classifier.bias"))
    assert (two.state[name] - one.state[name]).tolist() == pytest.approx([1.0] * 3, rel=0.01)


@pytest.mark.parametrize(
    "edit",
    [
        {"dtype": "float32"},
        {"head_tensors": ["classifier.weight"]},
        {"method": LoraMethod(rank=3, alpha=4.0).model_dump(mode="json")},
        {"method": LoraMethod(rank=2, alpha=4.0, dora=True).model_dump(mode="json")},
    ],
    ids=lambda edit: next(iter(edit)),
)
def test_another_manifest_around_the_same_config_and_names_is_checked_anew(
    saved: Path, checks: list[Any], edit: dict[str, Any]
) -> None:
    open_artifact(saved)
    open_artifact(saved)
    assert len(checks) == 1
    manifest = json.loads((saved / MANIFEST).read_bytes())
    assert manifest | edit != manifest
    resign(saved, manifest | edit)
    for count in (2, 3):  # what was refused is not remembered
        with pytest.raises(ArtifactError):
            open_artifact(saved)
        assert len(checks) == count


def test_no_more_is_remembered_than_is_useful(saved: Path, checks: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "_MOST_BYTES", 10)
    open_artifact(saved)
    open_artifact(saved)
    assert len(checks) == 2
    assert not alike._passed
