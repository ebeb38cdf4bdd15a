"""Successive halving: who goes on, with how much, and that pausing changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import adapterkit as ak
from adapterkit.errors import SweepError
from adapterkit.sweeping import Budget, Halving
from adapterkit.sweeping.halving import promoted
from adapterkit.training.interrupt import Interrupt
from tests.sweeping.test_sweep import lines
from tests.training.worlds import bytes_of, events, recipe, train

GRID = {"training.learning_rate": [1e-5, 0.02, 1e-4, 0.01]}
LONG: Any = SimpleNamespace(total_steps=90, steps_per_epoch=10)


def test_rungs_are_those_of_the_paper() -> None:
    # 27 settings, eta 3: 27, 9, 3, 1 of them, with 1/27, 1/9, 1/3 and all of the budget.
    rungs = Halving(3).rungs(27)
    assert [rung.groups for rung in rungs] == [27, 9, 3, 1]
    assert [None if rung.budget is None else rung.budget.amount for rung in rungs] == [1 / 27, 1 / 9, 1 / 3, None]
    rungs = Halving(2, Budget(1, "epochs")).rungs(6)
    assert [rung.groups for rung in rungs] == [6, 3, 1]
    assert [rung.budget for rung in rungs] == [Budget(1, "epochs"), Budget(2, "epochs"), None]
    assert [rung.budget for rung in Halving(3).rungs(2)] == [None]


@pytest.mark.parametrize(
    ("text", "steps"), [("1epoch", 10), ("0.5 epochs", 5), ("7steps", 7), ("1000 steps", 90), ("0.01epochs", 1)]
)
def test_a_budget_is_at_least_one_step_and_at_most_the_run(text: str, steps: int) -> None:
    assert Budget.parse(text).steps(LONG) == steps


def test_a_share_of_the_run_is_rounded_up() -> None:
    assert Budget(1 / 9, "share").steps(LONG) == 10
    assert Budget(1 / 8, "share").steps(LONG) == 12


@pytest.mark.parametrize("text", ["", "1", "0steps", "-1epoch", "ten steps"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(SweepError, match="no budget"):
        Budget.parse(text)


def test_settings_are_promoted_by_their_mean_and_failed_ones_last() -> None:
    scores = {"lucky": [0.9, 0.1], "steady": [0.6, 0.6], "failed": [0.99, None], "poor": [0.2, 0.3]}
    assert promoted(scores, 2, higher_is_better=True) == ["lucky", "steady"]
    assert promoted(scores, 1, higher_is_better=True) == ["steady"]
    assert promoted(scores, 1, higher_is_better=False) == ["poor"]
    assert promoted({"a": [0.5], "b": [0.5]}, 1, higher_is_better=True) == ["a"]


@pytest.fixture
def plan(tmp_path: Path, tiny_folders: Mapping[str, Path]) -> dict[str, Any]:
    wanted = recipe(tmp_path, tiny_folders["bert"], training={"epochs": 4, "batch_size": 16})
    return {**wanted, "data": {**wanted["data"], "validation": wanted["data"]["test"]}}


def test_the_best_setting_gets_the_whole_run_and_ends_as_if_it_had_been_trained_alone(
    plan: dict[str, Any], tmp_path: Path
) -> None:
    result = ak.sweep(plan, GRID, halving=Halving(2), quiet=True)
    steps = sorted(line["steps"] for line in result.points.values())
    # 12 steps in 4 epochs: four settings for a quarter, two for a half, one to the end.
    assert steps == [3, 3, 6, 12]
    assert sorted(line["status"] for line in result.points.values()) == ["done", "halved", "halved", "halved"]
    assert [(line["rung"], line["steps"]) for line in lines(result.folder, "rungs.jsonl")] == [(0, 3)] * 4 + [
        (1, 6)
    ] * 2
    rate = result.points[result.best]["settings"]["training.learning_rate"]
    alone = train(plan, overrides=[f"training.learning_rate={rate}", f"output={tmp_path / 'alone'}"])
    assert bytes_of(result.artifact) == bytes_of(alone.artifact)
    first = {line["point"]: line["value"] for line in lines(result.folder, "rungs.jsonl") if line["rung"] == 0}
    for name, value in first.items():
        at_3 = [event for event in events(result.folder / "points" / name, "validation") if event["step"] == 3]
        assert value == at_3[0]["metrics"]["accuracy"]
    assert not list((result.folder / "points").glob("*/training/checkpoint"))


def test_a_stopped_halving_goes_on(plan: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ak.sweep(plan, GRID, halving=Halving(2), quiet=True)
    asked = iter([*[False] * 13, True])  # in the second rung, behind its 12 steps of the first
    stopping = [f"output={tmp_path / 'stopped'}"]
    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "wished", lambda self, accelerator: next(asked))
        with pytest.raises(KeyboardInterrupt):
            ak.sweep(plan, GRID, halving=Halving(2), overrides=stopping, quiet=True)
    again = ak.sweep(plan, GRID, halving=Halving(2), overrides=stopping, quiet=True)
    assert bytes_of(again.artifact) == bytes_of(whole.artifact)
    assert {name: line["value"] for name, line in again.points.items()} == {
        name: line["value"] for name, line in whole.points.items()
    }


def test_halving_thins_out_points_that_are_trained_together(
    plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapterkit.training.together.driving.LEAST_GAIN", 0.0)
    result = ak.sweep(plan, GRID, halving=Halving(2), together=4, quiet=True)
    assert sorted(line["steps"] for line in result.points.values()) == [3, 3, 6, 12]
    assert sorted(line["status"] for line in result.points.values()) == ["done", "halved", "halved", "halved"]
    assert not list((result.folder / "points").glob("*/training/checkpoint"))
