"""Lists of runs: what lies below a folder, told from manifests alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapterkit.cli.app import app
from adapterkit.errors import ArtifactError
from adapterkit.manifest import open_manifest
from adapterkit.manifest.codec import dump_manifest
from adapterkit.recipe.task import TaskSettings
from adapterkit.report.runs import find_runs, main_metric
from adapterkit.tasks import TASKS
from tests.artifact.conftest import saved, saved_once
from tests.tasks.conftest import ROWS

__all__ = ["saved", "saved_once"]


@pytest.fixture
def runs(saved: Path, tmp_path: Path) -> Path:
    """An artifact, one inside a sweep, a damaged one and a run that was stopped."""
    content = json.loads((saved / "adapterkit.json").read_text())
    del content["sha256"]
    scores = {"macro_f1": 0.5, "accuracy": 0.8}
    measured = {name: {"value": value, "low": value - 0.1, "high": value + 0.1} for name, value in scores.items()}
    (saved / "adapterkit.json").write_bytes(dump_manifest({**content, "metrics": {"test": measured}}))
    folder = tmp_path / "runs"
    for name in ("tickets", "swept/points/rank=4", "damaged"):
        shutil.copytree(saved, folder / name)
    (folder / "damaged" / "adapterkit.json").write_text("{")
    checkpoint = folder / "stopped" / "training" / "checkpoint"
    checkpoint.mkdir(parents=True)
    (checkpoint / "progress.json").write_text(json.dumps({"progress": {"steps": 7}}))
    (folder / "empty").mkdir()
    return folder


def test_a_folder_of_runs_is_listed_with_what_their_manifests_say(runs: Path) -> None:
    damaged, stopped, swept, tickets = find_runs(runs)
    manifest = open_manifest(runs / "tickets")
    assert [line.name for line in (damaged, stopped, swept, tickets)] == [
        "damaged", "stopped", "swept/points/rank=4", "tickets",
    ]  # fmt: skip
    assert (tickets.kind, tickets.size_bytes, tickets.backbone) == (
        manifest.kind, manifest.size_bytes, manifest.backbone.name,
    )  # fmt: skip
    assert (tickets.split, tickets.metric) == ("test", "accuracy")
    assert (tickets.value, tickets.low, tickets.high) == (0.8, 0.8 - 0.1, 0.8 + 0.1)
    assert "adapterkit.json" in damaged.state
    assert stopped.state == "stopped at step 7; train it on with --resume"


def test_the_artifact_itself_is_a_list_of_one(runs: Path) -> None:
    assert [line.name for line in find_runs(runs / "tickets")] == ["tickets"]


@pytest.mark.parametrize("kind", TASKS)
def test_the_main_metric_of_a_stored_task_is_the_one_that_the_task_names(kind: str) -> None:
    task = TASKS[kind].prepare(_settings(kind), ROWS[kind])
    assert main_metric(task.to_dict(), dict.fromkeys(sorted(task.metrics))) == task.main_metric
    last = task.metrics[-1]
    asked = {**task.to_dict(), "settings": {"metric": last}}
    assert main_metric(asked, dict.fromkeys(task.metrics)) == last


def test_list_and_inspect_show_the_same_runs(runs: Path) -> None:
    shown = [CliRunner().invoke(app, [verb, str(runs), "--json"]) for verb in ("list", "inspect")]
    assert [done.exit_code for done in shown] == [0, 0]
    assert json.loads(shown[0].stdout) == json.loads(shown[1].stdout)
    assert [line["name"] for line in json.loads(shown[0].stdout)][-1] == "tickets"
    told = CliRunner().invoke(app, ["list", str(runs)]).stdout
    assert "tickets" in told
    assert "test accuracy" in told


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="there is no folder"):
        find_runs(tmp_path / "nowhere")


def _settings(kind: str) -> TaskSettings:
    return TaskSettings.model_validate({"kind": kind})
