"""`adapterkit search`: what fits a backbone, wherever artifacts are kept."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import adapterkit as ak
from adapterkit.cli.app import app
from adapterkit.errors import HubError
from adapterkit.manifest import MANIFEST, open_manifest
from adapterkit.metrics import Metric
from adapterkit.records import SearchRecord
from adapterkit.report.searching import Sought, search
from tests.artifact.conftest import make, write
from tests.artifact.test_hub import Hub, hub

__all__ = ["hub"]
pytestmark = [
    pytest.mark.usefixtures("own_cache"),
    pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning"),  # huggingface_hub's call of httpx
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_backbones: Any) -> Mapping[str, Path]:
    """Two artifacts on a BERT, of which one is better, and one on a DistilBERT."""
    root = tmp_path_factory.mktemp("made")

    def one(name: str, family: str, accuracy: float) -> Path:
        metrics = {"test": {"accuracy": Metric(accuracy, accuracy - 0.1, accuracy + 0.1)}}
        with make(tiny_backbones[family]) as adapted:
            return write(root / name, adapted, metrics=metrics)

    return {
        "worse": one("worse", "bert", 0.5),
        "better": one("better", "bert", 0.8),
        "else": one("else", "distilbert", 1),
    }


@pytest.fixture
def bert(made: Mapping[str, Path]) -> Sought:
    facts = open_manifest(made["worse"]).backbone
    return Sought("bert", (facts.name,), (facts.fingerprint,))


def found(where: str | Path | None, *backbone: Any, status: int = 0) -> Any:
    places = [] if where is None else [str(where)]
    done = CliRunner().invoke(app, ["search", *places, "--backbone", *map(str, backbone), "--json"])
    assert done.exit_code == status, done.output
    return json.loads(done.stdout) if status == 0 else done.stderr


def test_a_folder_is_looked_through_and_the_best_comes_first(made: Mapping[str, Path], bert: Sought) -> None:
    record = search(bert, str(made["worse"].parent))
    assert [(Path(one.source).name, one.fit, one.value) for one in record.found] == [
        ("better", "exact", 0.8),
        ("worse", "exact", 0.5),
    ]
    one, manifest = record.found[0], open_manifest(made["better"])
    assert (one.kind, one.method, one.split, one.metric) == ("text-classification", "lora", "test", "accuracy")
    assert (one.low, one.high) == pytest.approx((0.7, 0.9))
    assert (one.size_bytes, one.sha256, one.fingerprint) == (
        manifest.size_bytes,
        manifest.sha256,
        manifest.backbone.fingerprint,
    )
    assert one.date[:2] == "20"
    assert (record.others, record.refused) == (1, {})


def test_every_kind_of_store_is_looked_through_and_what_is_found_can_be_pulled(
    place: str, made: Mapping[str, Path], bert: Sought
) -> None:
    ak.push(made["worse"], place, tag="v1")
    ak.push(made["better"], place)
    ak.push(made["else"], place)
    for where in (place, place.rpartition("/")[0]):  # the store, and what it lies in
        record = search(bert, where)
        digest = open_manifest(made["better"]).sha256
        assert [one.source for one in record.found] == [f"{place}@{digest}", f"{place}@v1"]
        assert record.others == 1
    assert open_manifest(ak.pull(record.found[1].source)) == open_manifest(made["worse"])


def test_another_version_of_a_base_model_is_told_from_the_very_one(made: Mapping[str, Path], bert: Sought) -> None:
    where = str(made["worse"].parent)
    other = Sought("bert", bert.names, ("0" * 64,))
    assert {one.fit for one in search(other, where).found} == {"other-version"}
    unknown = Sought("bert", bert.names, ())
    assert {one.fit for one in search(unknown, where).found} == {"by-name"}
    renamed = Sought("print", (), bert.fingerprints)
    assert {one.fit for one in search(renamed, where).found} == {"exact"}


def test_what_cannot_be_read_is_named_and_keeps_nothing_else_from_being_found(
    made: Mapping[str, Path], bert: Sought, tmp_path: Path
) -> None:
    shutil.copytree(made["worse"].parent, tmp_path / "runs")
    (tmp_path / "runs" / "worse" / MANIFEST).write_text("{")
    (tmp_path / "runs" / ".hidden").mkdir()
    (tmp_path / "runs" / ".hidden" / MANIFEST).write_text("{")
    record = search(bert, str(tmp_path / "runs"))
    assert [Path(one.source).name for one in record.found] == ["better"]
    assert [Path(source).name for source in record.refused] == ["worse"]


def test_a_place_that_is_none_is_named(bert: Sought, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert search(bert, str(tmp_path / "empty")).found == ()
    for nowhere in (str(tmp_path / "none"), "memory://none/there", "nosuch://x"):
        with pytest.raises(HubError, match=r"there is nothing at|is no place that artifacts can be kept in"):
            search(bert, nowhere)


def test_a_hub_finds_by_base_model_and_by_fingerprint(
    hub: Hub, made: Mapping[str, Path], bert: Sought, tmp_path: Path
) -> None:
    for name, folder in made.items():
        ak.push(folder, f"me/{name}")
    record = search(bert)
    assert [(one.source.partition("@")[0], one.fit) for one in record.found] == [
        ("me/better", "exact"),
        ("me/worse", "exact"),
    ]
    assert record.found[0].date == "2026-11-29T08:00+00:00"
    assert open_manifest(ak.pull(record.found[0].source, tmp_path / "out")).sha256 == record.found[0].sha256
    (hub.repositories["me/worse"]["main"] / MANIFEST).write_bytes(b" " * ((8 << 20) + 1))
    record = search(bert)
    assert [one.source.partition("@")[0] for one in record.found] == ["me/better"]
    assert "expected at most 8,388,608 bytes" in "".join(record.refused.values())


def test_a_hub_that_cannot_be_reached_is_named(bert: Sought) -> None:
    with pytest.raises(HubError, match="cannot be searched"):
        search(bert)


def test_the_verb_takes_a_folder_an_artifact_a_fingerprint_and_a_name(
    made: Mapping[str, Path], bert: Sought, tiny_folders: Mapping[str, Path]
) -> None:
    where = made["worse"].parent
    for backbone in (tiny_folders["bert"], made["worse"], *bert.fingerprints):
        told = found(where, backbone)
        assert SearchRecord.model_validate(told).to_dict() == told
        assert (told["schema"], told["fingerprints"]) == ("adapterkit.search/1", [*bert.fingerprints])
        assert [one["fit"] for one in told["found"]] == ["exact", "exact"]
    by_name = found(where, "nobody/bert")
    assert (by_name["fingerprints"], [one["fit"] for one in by_name["found"]]) == ([], ["by-name"] * 2)
    assert "BackboneError" in found(where, "./nowhere", status=1)
    shown = CliRunner().invoke(app, ["search", str(where), "--backbone", str(made["else"])])
    assert "test accuracy 1.0000" in shown.stdout
    nothing = CliRunner().invoke(app, ["search", str(where), "--backbone", "0" * 64])
    assert "3 artifacts are of other backbones" in nothing.stderr


def test_facts_are_enough_where_the_backbone_is_an_artifacts_or_a_fingerprint(made: Mapping[str, Path]) -> None:
    words = ["search", str(made["worse"].parent), "--backbone", str(made["worse"])]
    program = f"import sys; from adapterkit.cli.app import app\ntry: app({words!r})\n"
    program += "finally: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, "exact" in done.stdout) == (0, True), done.stderr
