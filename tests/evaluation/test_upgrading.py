"""Adapters on another backbone: what the record says is what their own answers say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import adapterkit as ak
from adapterkit.cli.app import app
from adapterkit.errors import ContractError, DataError
from adapterkit.evaluation import upgrade
from adapterkit.manifest import open_manifest
from tests.training.worlds import recipe, rows_of, train, write_rows

KIND = "text-classification"


@pytest.fixture(scope="module")
def world(tiny_backbones: Any, tiny_folders: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run on the tiny BERT, and that BERT after its weights have moved."""
    from transformers import AutoModel, AutoTokenizer

    folder, backbone = tmp_path_factory.mktemp("upgrade"), tiny_backbones["bert"]
    data = {
        "train": write_rows(folder / "train.jsonl", rows_of(KIND, 40)),
        "test": write_rows(folder / "test.jsonl", rows_of(KIND, 70)[30:]),
    }
    run = train(recipe(folder, backbone, data=data), backbone=backbone).artifact
    model, moved = AutoModel.from_pretrained(tiny_folders["bert"]), folder / "moved"
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(moved)
    AutoTokenizer.from_pretrained(tiny_folders["bert"]).save_pretrained(moved)
    return folder, run, str(tiny_folders["bert"]), str(moved)


def accuracy(artifact: Any, backbone: str) -> float:
    rows = rows_of(KIND, 70)[30:]
    with ak.load(artifact, ak.Backbone.load(backbone)) as adapted:
        found = adapted.predict([{"text": row["text"]} for row in rows])
    return float(np.mean([a["label"] == row["label"] for a, row in zip(found, rows, strict=True)]))


def test_every_way_is_measured_on_the_adapters_own_rows(world: Any, tmp_path: Path) -> None:
    _, run, old, new = world
    found = upgrade([run], old, new, output=tmp_path / "kept", epochs=2.0)
    (adapter,) = found.adapters
    assert [trial.way for trial in adapter.trials] == ["copy", "head", "warm", "anew"]
    assert adapter.misfits == ()
    assert adapter.golden is not None
    assert adapter.golden[0] > 0
    for trial in adapter.trials:
        assert trial.output is not None
        assert trial.difference.a == pytest.approx(accuracy(run, old))
        assert trial.difference.b == pytest.approx(accuracy(trial.output, new))
        assert bool(ak.verify(trial.output, new))
    fine = [trial.way for trial in adapter.trials if trial.difference.verdict != "worse"]
    assert adapter.advised == (fine[0] if fine else None)
    copied = open_manifest(tmp_path / "kept" / Path(run).name / "copy")
    assert (copied.parent, copied.backbone.name) == (open_manifest(run).sha256, new)
    assert (Path(run) / "adapter_model.safetensors").read_bytes() == (
        tmp_path / "kept" / Path(run).name / "copy" / "adapter_model.safetensors"
    ).read_bytes()


def test_the_same_backbone_loses_nothing_and_a_copy_is_advised(world: Any) -> None:
    _, run, old, _ = world
    (adapter,) = upgrade([run], old, old, epochs=0.1).adapters
    assert adapter.advised == "copy"
    assert adapter.golden is not None
    assert adapter.golden[0] == 0
    assert adapter.trials[0].difference.difference == 0.0
    assert all(trial.output is None for trial in adapter.trials)


def test_where_nothing_fits_there_is_no_copy(world: Any, tiny_folders: Any) -> None:
    _, run, old, _ = world
    (adapter,) = upgrade([run], old, str(tiny_folders["distilbert"]), epochs=0.1).adapters
    assert adapter.misfits
    assert adapter.golden is None
    assert [trial.way for trial in adapter.trials] == ["head", "anew"]


def test_what_cannot_be_upgraded_is_refused_before_anything_is_trained(world: Any, tmp_path: Path) -> None:
    _, run, old, new = world
    with pytest.raises(DataError, match="name of several"):
        upgrade([run, run], old, new)
    with pytest.raises(ContractError, match="fingerprint"):
        upgrade([run], new, old)
    (tmp_path / Path(run).name).mkdir()
    (tmp_path / Path(run).name / "x").write_text("mine")
    with pytest.raises(ak.errors.OutputError):
        upgrade([run], old, new, output=tmp_path)


def test_the_commands_that_move_traffic_name_what_was_kept(world: Any, tmp_path: Path) -> None:
    _, run, old, _ = world
    asked = ["upgrade", "--from", old, "--to", old, str(run), "--epochs", "0.1", "--output", str(tmp_path / "kept")]
    shown = CliRunner().invoke(app, asked)
    assert shown.exit_code == 0, shown.output
    name, kept = Path(run).name, tmp_path / "kept" / Path(run).name / "copy"
    commands = [line for line in shown.stdout.splitlines() if line.startswith("adapterkit ")]
    assert commands == [
        f"adapterkit registry add {name} {kept}",
        f"adapterkit registry promote {name} {open_manifest(kept).sha256[:12]} --channel candidate --backbone {old}",
        f"adapterkit serve --registry sqlite:///registry.db --backbone {old} --backbone {old}",
        f"adapterkit registry split {name} stable=0.95 candidate=0.05",
        f"adapterkit registry promote {name} candidate",
        f"adapterkit registry roll-back {name}",
    ]


def test_the_command_prints_a_table_and_a_record(world: Any) -> None:
    _, run, old, new = world
    asked = ["upgrade", "--from", old, "--to", new, str(run), "--epochs", "0.1"]
    shown = CliRunner().invoke(app, asked)
    assert shown.exit_code == 0, shown.output
    assert "golden rows differ" in shown.stdout
    assert "Kept nothing" in shown.stderr
    record = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    assert record["schema"] == "adapterkit.upgrade/1"
    with pytest.raises(ValueError, match="batch_size"):
        upgrade([run], old, new, batch_size=0)
