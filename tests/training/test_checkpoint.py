"""How far a run is, and which state was the best; what a checkpoint holds is under test in test_resume."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from adapterkit.errors import TrainingError
from adapterkit.training.checkpoint import INDEX, Progress, begin, read_progress


def values(progress: Progress, found: list[float], *, higher_is_better: bool) -> list[bool]:
    better = []
    for step, value in enumerate(found, start=1):
        progress.steps = step
        better.append(progress.is_best(value, higher_is_better=higher_is_better))
    return better


def test_the_best_is_the_first_of_the_highest_or_of_the_lowest() -> None:
    progress = Progress("run")
    assert values(progress, [1.0, 3.0, 3.0, 2.0], higher_is_better=True) == [True, True, False, False]
    assert (progress.best_value, progress.best_step, progress.since_best) == (3.0, 2, 2)
    assert values(Progress("run"), [3.0, 1.0, 2.0], higher_is_better=False) == [True, True, False]


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_a_state_that_scored_nan_is_never_the_best(higher_is_better: bool) -> None:
    progress = Progress("run")
    assert values(progress, [math.nan, 1.0, math.nan], higher_is_better=higher_is_better) == [False, True, False]
    assert (progress.best_value, progress.best_step) == (1.0, 2)


def test_patience_counts_validations_without_a_better_one() -> None:
    progress = Progress("run", since_best=2)
    assert [progress.is_enough(patience) for patience in (None, 3, 2, 1)] == [False, False, True, True]


def test_there_is_no_progress_where_there_is_no_checkpoint(tmp_path: Path) -> None:
    assert read_progress(tmp_path) is None
    assert begin(tmp_path, "run", resume=False, overwrite=False) == Progress("run")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"progress": 3}', '{"progress": {"position": {"x": 1}}}', "\x00"])
def test_an_index_that_says_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / INDEX).write_text(content)
    with pytest.raises(TrainingError, match="cannot be read"):
        read_progress(tmp_path)
    assert begin(tmp_path, "run", resume=False, overwrite=True) == Progress("run")
