"""What a user should know of a run's rows before it trains: how they were read, what is left out, what is missing."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from adapterkit.data import Overlap, Rows, RowStream, find_overlap, overlooked
from adapterkit.recipe.columns import Column
from adapterkit.tasks import Task

Value = TypeVar("Value")

SHOWN = 10
"""Labels that a note names."""


def reading_notes(splits: Mapping[str, Rows | RowStream], needs: Mapping[str, Column]) -> list[str]:
    """How each split was read, where its name does not say it, and which columns look meant and are not read."""
    notes = []
    for split, rows in in_order(splits):
        notes += [f"{split}: {note}" for note in rows.reading.notes]
        for column, usual in overlooked(rows.columns, rows.reading.columns, needs).items():
            taken = rows.reading.columns.get(usual)
            why = f"{usual} is {taken!r}" if taken else f"name it: data.columns={{{usual}: {column}}}"
            notes.append(f"{split}: the column {column!r} is not read, though its name is usual for {usual}; {why}")
    return notes


def coverage_notes(task: Task, counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Labels of which a split has no row, and those of which training has one only, by split -> label -> count."""
    notes = []
    for split, found in in_order(counts):
        named = [label for label in found if task.is_countable(label)]
        none = [label for label in named if not found[label]]
        if none:
            notes.append(f"{split}: {len(none):,} of {len(named):,} labels have no row: {_shown(none)}")
        once = [label for label in named if found[label] == 1]
        if split == "train" and once:
            notes.append(f"{split}: {len(once):,} of {len(named):,} labels have one row only: {_shown(once)}")
    return notes


def overlaps(task: Task, splits: Mapping[str, Rows]) -> dict[str, Overlap]:
    """What each split shares with training. A stream is not held, so it cannot be compared."""
    train = splits.get("train")
    if train is None:
        return {}
    inputs: Sequence[str] = [
        name for name, column in task.columns.items() if not column.target and name in train.columns
    ]
    return {split: find_overlap(train, rows, inputs) for split, rows in splits.items() if split != "train"}


def in_order(splits: Mapping[str, Value]) -> list[tuple[str, Value]]:
    """The splits with what belongs to each, training first and the test last."""
    return sorted(splits.items(), key=lambda one: ("train", "validation", "test").index(one[0]))


def _shown(labels: Sequence[str]) -> str:
    return ", ".join(map(repr, labels[:SHOWN])) + (", …" if len(labels) > SHOWN else "")
