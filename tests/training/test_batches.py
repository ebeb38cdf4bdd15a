"""The rows of every step."""

from __future__ import annotations

from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

from adapterkit.data import stream_rows
from adapterkit.errors import DataError, RecipeError
from adapterkit.recipe import TaskSettings, TrainingSettings
from adapterkit.tasks import TASKS
from adapterkit.tasks.protocol import Feature, Vocabulary
from adapterkit.training.batches import HeldBatches, StreamedBatches
from adapterkit.training.standing import Position
from tests.training.worlds import rows_of, write_rows

KIND = "text-classification"


def features_of(lengths: list[int]) -> list[Feature]:
    return [
        Feature(row=row, index=row, inputs={}, labels=0, length_tokens=length) for row, length in enumerate(lengths)
    ]


def held(count: int, **settings: Any) -> HeldBatches:
    lengths = [1 + number % 7 for number in range(count)]
    return HeldBatches(features_of(lengths), [10 * number for number in range(count)], TrainingSettings(**settings))


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"epochs": 3, "batch_size": 4}, 9),  # 10 rows: steps of 4, 4 and 2 rows in an epoch
        ({"epochs": 0.5, "batch_size": 4}, 2),
        ({"epochs": 1.5, "batch_size": 4}, 5),
        ({"epochs": 0.01, "batch_size": 4}, 1),
        ({"epochs": 3, "batch_size": 4, "max_steps": 5}, 5),
        ({"epochs": 1, "batch_size": 4, "max_steps": 50}, 3),
        ({"epochs": 2, "batch_size": 100}, 2),
    ],
)
def test_epochs_or_steps_say_when_to_end(settings: dict[str, Any], steps: int) -> None:
    assert held(10, **settings).total_steps == steps


def test_every_epoch_has_every_row_once_in_another_order() -> None:
    batches = held(10, batch_size=4)
    steps = list(islice(batches.after(Position()), 6))
    assert [position for position, _ in steps] == [Position(epoch, batch) for epoch in (0, 1) for batch in (1, 2, 3)]
    epochs = [[feature.row for _, part in steps[start : start + 3] for feature in part] for start in (0, 3)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
    assert epochs[0] != epochs[1]


def test_going_on_gives_the_batches_that_would_have_come() -> None:
    batches = held(10, batch_size=4)
    every = list(islice(batches.after(Position()), 7))
    for done in range(1, 7):
        assert list(islice(batches.after(every[done - 1][0]), 7 - done)) == every[done:]


def test_a_token_budget_counts_padding() -> None:
    batches = held(30, batch_tokens=14)
    for _, part in islice(batches.after(Position()), batches.steps_per_epoch):
        assert len(part) * max(feature.length_tokens for feature in part) <= 14


def test_lines_are_those_of_the_file() -> None:
    batches = held(10, batch_size=4)
    _, part = next(batches.after(Position()))
    assert batches.line_numbers(part) == sorted(10 * feature.row for feature in part)


def test_nothing_to_learn_from_is_an_error() -> None:
    with pytest.raises(DataError, match="nothing to learn"):
        held(0)


class TestAStream:
    @pytest.fixture
    def world(self, tiny_backbones: Any, tmp_path: Path) -> Any:
        rows = rows_of(KIND, 20)
        rows[4]["label"] = None
        rows[6]["text"] = f"{rows[6]['text']} " * 40
        stream = stream_rows(write_rows(tmp_path / "rows.jsonl", rows), needs=TASKS[KIND].columns)
        task = TASKS[KIND].prepare(TaskSettings(kind=KIND, max_tokens=16), rows)
        backbone = tiny_backbones["bert"]
        vocabulary = Vocabulary.of(backbone.tokenizer, backbone.max_tokens, None)
        told: list[str] = []
        settings = TrainingSettings(batch_size=4, max_steps=8)
        return StreamedBatches(stream, task, vocabulary, settings, told.append), told, (stream, task, vocabulary)

    def test_every_usable_row_comes_once_in_an_epoch(self, world: Any) -> None:
        batches, _, _ = world
        lines = []
        for position, part in islice(batches.after(Position()), 10):
            lines.append((position, batches.line_numbers(part)))
        epochs = [[line for position, found in lines if position.epoch == epoch for line in found] for epoch in (0, 1)]
        assert sorted(epochs[0]) == sorted(epochs[1]) == [line for line in range(1, 21) if line != 5]
        assert epochs[0] != epochs[1]

    def test_going_on_gives_the_batches_that_would_have_come(self, world: Any) -> None:
        batches, _, _ = world
        every = list(islice(batches.after(Position()), 8))
        for (position, _), (following, part) in pairwise(every):
            assert next(batches.after(position)) == (following, part)

    def test_what_cannot_be_used_and_what_is_cut_is_told_once(self, world: Any) -> None:
        batches, told, _ = world
        list(islice(batches.after(Position()), 12))
        assert len(told) == 2
        assert "1 of 20 train rows cannot be used" in told[0]
        assert "lines 5" in told[0]
        assert "1 of 19 rows cut" in told[1]

    def test_without_a_number_of_steps_it_would_never_end(self, world: Any) -> None:
        with pytest.raises(RecipeError, match="does not say how many rows") as refused:
            StreamedBatches(*world[2], TrainingSettings())
        assert "training.max_steps" in str(refused.value)
