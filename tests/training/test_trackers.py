"""Trackers through Accelerate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapterkit.errors import RecipeError
from adapterkit.training import trackers
from tests.training.worlds import entries, recipe, train


def test_tensorboard_is_on_where_it_is_installed_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "get_available_trackers", lambda: ["wandb", "tensorboard"])
    assert trackers.tracker_names("auto") == ["tensorboard"]
    assert trackers.tracker_names(()) == []
    assert trackers.tracker_names(("wandb",)) == ["wandb"]
    monkeypatch.setattr(trackers, "get_available_trackers", list)
    assert trackers.tracker_names("auto") == []


def test_a_tracker_that_is_not_there_is_refused_and_leaves_nothing(tiny_backbones: Any, tmp_path: Path) -> None:
    backbone = tiny_backbones["bert"]
    with pytest.raises(RecipeError, match="not every tracker") as refused:
        train(recipe(tmp_path, backbone, training={"trackers": ["wandbee"]}), backbone=backbone)
    assert "'wandbee'" in str(refused.value)
    assert entries(tmp_path / "out") == []


@pytest.mark.parametrize(("least_seconds", "told"), [(0.0, [1, 2, 3]), (3600.0, [1])])
def test_tensorboard_gets_losses_not_too_often_and_metrics(
    tiny_backbones: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least_seconds: float, told: list[int]
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setattr(trackers, "LEAST_SECONDS", least_seconds)
    backbone = tiny_backbones["bert"]
    plan = recipe(tmp_path, backbone, training={"trackers": ["tensorboard"], "max_steps": 3})
    artifact = train(plan, backbone=backbone).artifact
    read = accumulator.EventAccumulator(str(artifact / "training" / "trackers"))
    read.Reload()
    assert [event.step for event in read.Scalars("train/loss")] == told
    assert [event.step for event in read.Scalars("validation/accuracy")] == [3]


def test_a_run_without_trackers_leaves_no_folder_for_them(tiny_backbones: Any, tmp_path: Path) -> None:
    backbone = tiny_backbones["bert"]
    artifact = train(recipe(tmp_path, backbone, training={"max_steps": 1}), backbone=backbone).artifact
    assert entries(artifact / "training") == ["journal.jsonl"]
