"""How far a run is, and which state was the best; what a checkpoint holds is under test in test_resume."""

from __future__ import annotations

import math
from hashlib import sha256
from pathlib import Path

import pytest

from adapterkit.errors import TrainingError
from adapterkit.manifest import dump_json
from adapterkit.tasks import Metric
from adapterkit.training.standing import INDEX, Progress, begin, read_progress


def kept(progress: Progress, found: list[float], *, higher_is_better: bool = True, error: float = 0.0) -> list[bool]:
    """Which states are kept, when these scores come one after the other, all with this standard error."""
    answers = []
    for step, value in enumerate(found, start=1):
        progress.steps = step
        answers.append(progress.keeps(Metric(value, value - 2 * error, value + 2 * error, higher_is_better)))
    return answers


def test_the_best_is_kept_and_of_equal_ones_the_latest() -> None:
    progress = Progress({"run": 1})
    assert kept(progress, [1.0, 3.0, 3.0, 2.0]) == [True, True, True, False]
    assert (progress.best_value, progress.kept_step, progress.since_best) == (3.0, 3, 2)
    assert kept(Progress({"run": 1}), [3.0, 1.0, 2.0], higher_is_better=False) == [True, True, False]


@pytest.mark.parametrize("sign", [1, -1])
def test_the_latest_within_a_standard_error_of_the_best_is_kept(sign: int) -> None:
    progress = Progress({"run": 1})
    found = [sign * value for value in (1.0, 3.0, 2.75, 2.4, 2.5, 2.0)]
    assert kept(progress, found, higher_is_better=sign > 0, error=0.5) == [True, True, True, False, True, False]
    assert (progress.best_value, progress.kept_step, progress.since_best) == (sign * 3.0, 5, 4)


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_a_state_that_scored_nan_is_never_kept(higher_is_better: bool) -> None:
    progress = Progress({"run": 1})
    found = [math.nan, 1.0, math.nan]
    assert kept(progress, found, higher_is_better=higher_is_better) == [False, True, False]
    assert (progress.best_value, progress.kept_step) == (1.0, 2)


def test_patience_counts_validations_without_a_better_one() -> None:
    progress = Progress({"run": 1}, since_best=2)
    assert [progress.is_enough(patience) for patience in (None, 3, 2, 1)] == [False, False, True, True]


def test_there_is_no_progress_where_there_is_no_checkpoint(tmp_path: Path) -> None:
    assert read_progress(tmp_path) is None
    assert begin(tmp_path, {"run": 1}, resume=False, overwrite=False) == Progress({"run": 1})


def test_a_checkpoint_whose_dropout_drew_otherwise_is_refused_by_its_format(tmp_path: Path) -> None:
    files = {f"{name}.safetensors": {"size_bytes": 1, "sha256": "0" * 64} for name in ("adapter", "optimizer")}
    content = {"format": 1, "progress": {"made_of": {}, "shares": 4}, "scaler": {}, "files": files}
    (tmp_path / INDEX).write_bytes(dump_json({**content, "sha256": sha256(dump_json(content)).hexdigest()}))
    with pytest.raises(TrainingError, match="of an earlier version") as caught:
        begin(tmp_path, {}, resume=True, overwrite=False)
    assert "found 1, expected 2" in caught.value.problems[0]
    assert begin(tmp_path, {"run": 1}, resume=False, overwrite=True) == Progress({"run": 1})


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"progress": 3}', '{"progress": {"position": {"x": 1}}}', "\x00"])
def test_an_index_that_says_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / INDEX).write_text(content)
    with pytest.raises(TrainingError, match="is damaged"):
        read_progress(tmp_path)
    assert begin(tmp_path, {"run": 1}, resume=False, overwrite=True) == Progress({"run": 1})
