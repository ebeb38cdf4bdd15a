"""What needs only facts imports nothing heavy: one process runs it all, and then looks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from adapterkit.manifest.facts import FileFacts
from adapterkit.training.standing import INDEX, Index, Position, Progress
from tests.artifact.conftest import saved, saved_once

__all__ = ["saved", "saved_once"]

RECIPE = """
task: {kind: text-classification}
backbone: {name: nowhere/tiny}
data: {train: rows.jsonl, validation: 0.5}
"""

RUN_ALL = """
import json, sys
import adapterkit
from typer.testing import CliRunner
from adapterkit.cli import app

adapterkit.Recipe, adapterkit.load_recipe, dir(adapterkit)
heavy, *commands = json.loads(sys.argv[1])
told = []
for words in commands:
    done = CliRunner().invoke(app, words)
    told.append([done.exit_code, done.output, sorted(set(heavy) & set(sys.modules))])
print(json.dumps(told))
"""


HEAVY = ("torch", "transformers", "peft", "datasets", "pandas", "accelerate", "sklearn", "scipy", "matplotlib")


@pytest.fixture
def world(saved: Path, tmp_path: Path) -> Path:
    """An artifact, a recipe, a folder that holds something, and a run that was stopped."""
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    checkpoint = tmp_path / "stopped" / "training" / "checkpoint"
    checkpoint.mkdir(parents=True)
    progress = Progress(made_of={}, steps=7, position=Position(epoch=0, batch=7))
    file = FileFacts(sha256="0" * 64, size_bytes=1)
    files = {"adapter.safetensors": file, "optimizer.safetensors": file}
    (checkpoint / INDEX).write_bytes(Index(progress=progress, scaler={}, files=files).dump())
    swept = tmp_path / "swept"
    swept.mkdir()
    (swept / "sweep.json").write_text('{"format": 1, "grid": {"training.seed": [5]}}')
    return tmp_path


def test_facts_and_refusals_need_no_model(world: Path) -> None:
    artifact, recipe, full = str(world / "artifact"), str(world / "recipe.yaml"), str(world / "full")
    stopped, swept, new = (f"output={world / name}" for name in ("stopped", "swept", "new"))
    expected = [
        (["--help"], 0, "Examples"),
        (["train", "--help"], 0, "Examples"),
        (["schema"], 0, "json-schema.org"),
        (["recipes"], 0, "banking77"),
        (["inspect", artifact, "--json"], 0, '"seed": 0'),
        (["list", str(world)], 0, "stopped at step 7"),
        (["report", artifact, "--json"], 0, "adapterkit.report/1"),
        (["report", artifact], 0, "records about 1 runs"),
        (["report", full], 1, "is not an artifact"),
        (["push", artifact, "bad-name"], 1, "expected owner/name"),
        (["push", full, "me/intent"], 1, "is not an artifact that can be read"),
        (["pull", "bad-name"], 1, "no name on a hub"),
        (["train", recipe, f"output={full}"], 1, "full exists"),
        (["train", recipe, stopped], 1, "was stopped at step 7"),
        (["train", recipe, new, "data.test=none.csv"], 1, "There is no file none.csv: looked at:"),
        (["plan", recipe], 1, "There is no file rows.jsonl"),
        (["sweep", recipe, new, "--grid", "seed=0,1"], 1, "There is no file rows.jsonl"),
        (["train", recipe, new, "--resume"], 1, "there is no checkpoint to go on from"),
        (["sweep", recipe], 1, "a sweep needs a grid"),
        (["sweep", recipe, swept, "--grid", "seed=0,1"], 1, "grid.training.seed: begun with [5], found [0, 1]"),
        (["sweep", recipe, f"output={full}", "--grid", "seed=0,1"], 1, "full exists, and holds no sweep"),
        (["predict", "nowhere"], 1, "nowhere is not an artifact"),
        (["evaluate", full], 1, "full is not an artifact"),
        (["export", artifact, full], 1, "full exists"),
        (["import", "nowhere", full], 1, "full exists"),
        (["compose", "plan.yaml", "--output", full], 1, "full exists"),
    ]
    commands = json.dumps([HEAVY, *(command for command, _, _ in expected)])
    done = subprocess.run([sys.executable, "-c", RUN_ALL, commands], capture_output=True, text=True, cwd=world)
    assert done.stderr == ""
    for (command, status, words), (code, told, loaded) in zip(expected, json.loads(done.stdout), strict=True):
        assert loaded == [], command
        assert (code, words in " ".join(told.split())) == (status, True), (command, told)
