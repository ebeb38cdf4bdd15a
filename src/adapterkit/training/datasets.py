"""The rows of a recipe: training, validation and test, checked, and the facts about them that an artifact keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adapterkit.artifact import DataFacts
from adapterkit.data import (
    Rows,
    RowStream,
    TextUnit,
    find_overlap,
    read_rows,
    split_stream,
    split_validation,
    stream_rows,
)
from adapterkit.data.problems import listing
from adapterkit.recipe import Recipe
from adapterkit.tasks import TASKS, Task

STREAM_SAMPLE_ROWS = 2000
"""Rows of a stream from which labels are learned, and that validate where a share is split off."""


@dataclass
class RecipeRows:
    """The rows of one recipe.

    Attributes:
        task: prepared on the training rows.
        train: usable training rows, or a stream of them.
        validation, test: usable rows, or None where the recipe has none.
        notes: what the user should know: unusable rows by line, rows shared between parts.
        facts: what the artifact keeps.
    """

    task: Task
    train: Rows | RowStream
    validation: Rows | None
    test: Rows | None
    notes: list[str] = field(default_factory=list)
    facts: DataFacts = field(default_factory=lambda: DataFacts(source="unknown"))


def read_recipe_rows(recipe: Recipe, folder: Path | None = None) -> RecipeRows:
    """Read, check and split the rows of a recipe.

    Args:
        folder: the recipe's own, where relative paths are looked for too.

    Raises:
        DataError: a file or a row that cannot be used; see `data.read_rows` and the task's `check_rows`.
    """
    data, kind = recipe.data, recipe.task.kind
    task_class = TASKS[kind]
    unit = _text_unit(recipe)

    def read(source: str, part: str) -> Rows:
        rows = read_rows(source, data, needs=task_class.columns, part=part, folder=folder, text_unit=unit)
        return rows if data.limit is None else rows.sample(data.limit, recipe.training.seed)

    assert data.train is not None  # a recipe without training rows is refused when it is loaded
    notes: list[str] = []
    unusable: dict[str, int] = {}

    def usable(task: Task, rows: Rows, part: str) -> Rows:
        checked = task.check_rows(rows, "train" if part == "train" else "score")
        unusable[part] = len(checked.problems)
        if checked.problems:
            notes.append(_unusable(part, rows, checked.problems))
        return checked.rows  # type: ignore[return-value]

    train: Rows | RowStream
    validation = read(data.validation, "validation") if isinstance(data.validation, str) else None
    if data.streaming:
        stream = stream_rows(data.train, data, needs=task_class.columns, folder=folder, text_unit=unit)
        if isinstance(data.validation, float):
            stream, held_out = split_stream(stream, data.validation, recipe.training.seed)
            validation = held_out.take(STREAM_SAMPLE_ROWS)
        task = task_class.prepare(recipe.task, stream.take(STREAM_SAMPLE_ROWS))
        train = stream
    else:
        everything = read(data.train, "train")
        task = task_class.prepare(recipe.task, everything)
        held = usable(task, everything, "train")
        if isinstance(data.validation, float):
            held, validation = split_validation(
                held, data.validation, recipe.training.seed, stratify_by=_class_column(task)
            )
        train = held
    validation = None if validation is None else usable(task, validation, "validation")
    test = None if data.test is None else usable(task, read(data.test, "test"), "test")
    parts = {"train": train, "validation": validation, "test": test}
    if isinstance(train, Rows):
        notes += _overlaps(task, train, {"validation": validation, "test": test})
    held_parts = {name: rows for name, rows in parts.items() if isinstance(rows, Rows)}
    facts = DataFacts(
        source=data.train,
        revision=data.revision,
        rows={name: len(rows) for name, rows in held_parts.items()},
        unusable={name: count for name, count in unusable.items() if name in held_parts},
        label_counts={name: counts for name, rows in held_parts.items() if (counts := task.label_counts(rows))},
        digests={name: rows.digest() for name, rows in held_parts.items()},
    )
    return RecipeRows(task, train, validation, test, notes, facts)


def _text_unit(recipe: Recipe) -> TextUnit:
    """Language models read a text file as one document, or as paragraphs where some are split off to validate."""
    if recipe.task.kind not in ("masked-lm", "causal-lm"):
        return "line"
    return "paragraph" if isinstance(recipe.data.validation, float) else "document"


def _class_column(task: Task) -> str | None:
    return "label" if task.kind == "text-classification" and task.problem != "regression" else None


def _unusable(part: str, rows: Rows, problems: Sequence[tuple[int, str]]) -> str:
    reasons: dict[str, list[int]] = {}
    for number, reason in problems:
        reasons.setdefault(reason, []).append(number)
    shown = "; ".join(f"{reason}: lines {listing(numbers)}" for reason, numbers in list(reasons.items())[:5])
    return f"{len(problems)} of {len(rows)} {part} rows cannot be used ({shown})"


def _overlaps(task: Task, train: Rows, others: Mapping[str, Rows | None]) -> list[str]:
    inputs = [name for name, column in task.columns.items() if not column.target and name in train.columns]
    notes = []
    for name, rows in others.items():
        found = find_overlap(train, rows, inputs) if rows is not None else None
        if found:
            notes.append(f"{name}: {found}")
    return notes
