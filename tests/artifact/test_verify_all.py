"""Every artifact of a folder, as a pipeline checks them before a backbone is exchanged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from adapterkit.artifact import verify_all
from adapterkit.cli.app import app
from adapterkit.errors import ArtifactError
from tests.training.worlds import recipe, train


@pytest.fixture(scope="module")
def runs(tiny_backbones: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two artifacts, a damaged copy, and a folder that is none."""
    folder, backbone = tmp_path_factory.mktemp("all"), tiny_backbones["bert"]
    for name in ("one", "deep/two"):
        settings = {"training": {"max_steps": 1}, "output": str(folder / "runs" / name)}
        train(recipe(folder, backbone, **settings), backbone=backbone)
    damaged = folder / "runs" / "damaged"
    shutil.copytree(folder / "runs" / "one", damaged)
    tensors = damaged / "adapter_model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"\x7f")
    (folder / "runs" / "notes").mkdir()
    return folder / "runs"


def test_each_is_verified_and_one_that_fails_stops_no_other(runs: Path, tiny_backbones: Any) -> None:
    found = {
        report.folder.relative_to(runs).as_posix(): report.ok for report in verify_all(runs, tiny_backbones["bert"])
    }
    assert found == {"damaged": False, "deep/two": True, "one": True}


def test_a_folder_without_any_is_refused(runs: Path) -> None:
    with pytest.raises(ArtifactError, match="holds no artifact"):
        list(verify_all(runs / "notes"))
    with pytest.raises(ArtifactError, match="no folder"):
        list(verify_all(runs / "nowhere"))


def test_a_pipeline_reads_what_failed_and_why(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "verified.xml"
    shown = CliRunner().invoke(app, ["verify", "--all", str(runs), "--junit", str(out), "--json"])
    assert shown.exit_code == 1
    suites = {suite.get("name"): suite for suite in ElementTree.parse(out).getroot()}
    told = {each["folder"]: each for each in json.loads(shown.stdout)}
    assert suites.keys() == told.keys() == {str(runs / name) for name in ("one", "deep/two", "damaged")}
    for name, suite in suites.items():
        failed = [case.get("name") for case in suite if case.find("failure") is not None]
        assert failed == [check["name"] for check in told[name]["checks"] if not check["ok"]]
        assert int(suite.get("failures", -1)) == len(failed)
        assert int(suite.get("tests", -1)) == len(list(suite))
    assert suites[str(runs / "one")].get("failures") == "0"
    assert suites[str(runs / "damaged")].get("failures") != "0"


def test_another_backbone_fails_all_of_them(runs: Path, tiny_backbones: Any, tmp_path: Path) -> None:
    """The gate before an upgrade: the same checkpoint with other weights."""
    other = tmp_path / "upgraded"
    shutil.copytree(tiny_backbones["bert"].folder, other)
    weights = load_file(other / "model.safetensors")
    save_file({name: tensor + 0.5 for name, tensor in weights.items()}, other / "model.safetensors", {"format": "pt"})
    reports = list(verify_all(runs, other))
    assert not any(reports)
    assert any("fingerprint" in check.detail for check in reports[-1].checks)


def test_a_backbone_that_cannot_be_loaded_is_a_failure_and_no_end(runs: Path, tmp_path: Path) -> None:
    reports = list(verify_all(runs, tmp_path / "nowhere"))
    assert [report.ok for report in reports] == [False, False, False]
    assert {report.checks[-1].name for report in reports} >= {"backbone"}


@pytest.mark.parametrize("words", [["--part", "a=b"], ["--backbone-dtype", "bfloat16"]])
def test_what_belongs_to_one_artifact_is_refused_beside_all(runs: Path, words: list[str]) -> None:
    refused = CliRunner().invoke(app, ["verify", "--all", str(runs), *words])
    assert refused.exit_code == 2
    assert words[0] in refused.output
