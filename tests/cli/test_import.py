"""`adapterkit import`, from a folder that plain PEFT wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification
from typer.testing import CliRunner

from adapterkit.cli.app import app


@pytest.fixture
def lora_folder(tmp_path: Path, tiny_folders: Mapping[str, Path]) -> Path:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_folders["bert"], num_labels=2)
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=2, target_modules=["query"])
    get_peft_model(model, config).save_pretrained(tmp_path / "lora")
    return tmp_path / "lora"


def test_a_folder_of_plain_peft_becomes_an_artifact_that_verifies(lora_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "imported"
    words = ["import", str(lora_folder), str(output), "--from", "peft", "--labels", "no, yes", "--json"]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 0, ran.stderr
    assert json.loads(ran.stdout) == {"artifact": str(output)}
    assert CliRunner().invoke(app, ["verify", str(output)]).exit_code == 0
    shown = json.loads(CliRunner().invoke(app, ["inspect", str(output), "--json"]).stdout)
    assert shown["task"]["labels"] == ["no", "yes"]


def test_a_folder_that_holds_no_adapter_is_refused(tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["import", str(tmp_path), str(tmp_path / "out")])
    assert refused.exit_code == 1
    assert refused.stderr.startswith("ArtifactError")
    assert not (tmp_path / "out").exists()


def test_a_format_that_is_not_known_is_refused_with_status_2(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["import", "a", "b", "--from", "elsewhere"]).exit_code == 2
