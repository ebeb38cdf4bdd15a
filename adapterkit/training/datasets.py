"""The rows of a recipe: training, validation and test, checked, and the facts about them that an artifact keeps."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from adapterkit.artifact import DataFacts
from adapterkit.data import (
    IN_MEMORY,
    Rows,
    RowStream,
    as_rows,
    check_sources,
    named_rows,
    read_rows,
    split_stream,
    split_validation,
    stream_rows,
)
from adapterkit.data.problems import unusable_note
from adapterkit.errors import RecipeError
from adapterkit.recipe import Recipe
from adapterkit.tasks import TASKS, Task
from adapterkit.training.row_notes import coverage_notes, overlaps, reading_notes
from adapterkit.training.start import knowing

STREAM_SAMPLE_ROWS = 2000
"""Rows of a stream from which labels are learned, and that validate where a share is split off."""


@dataclass(frozen=True)
class RecipeRows:
    """The rows of one recipe.

    Attributes:
        task: prepared on the training rows.
        metric: the one that picks the best state.
        train: usable training rows, or a stream of them.
        sample: usable training rows in memory: all of them, or the first of a stream.
        validation, test: usable rows, or None where the recipe has none.
        notes: what the user should know: unusable rows by line, rows shared between splits.
        facts: what the artifact keeps.
    """

    task: Task
    metric: str
    train: Rows | RowStream
    sample: Rows
    validation: Rows | None
    test: Rows | None
    notes: tuple[str, ...]
    facts: DataFacts


def read_recipe_rows(
    recipe: Recipe,
    folder: Path | None = None,
    given: Mapping[str, Rows] | None = None,
    known: Task | None = None,
) -> RecipeRows:
    """Read, check and split the rows of a recipe.

    Args:
        folder: the recipe's own, where relative paths are looked for too.
        given: split -> rows in memory, where the recipe's source is `IN_MEMORY`.
        known: a task whose labels stay.

    Raises:
        DataError: a file or a row that cannot be used; see `data.read_rows` and the task's `check_rows`.
        RecipeError: a metric that the task does not have.
    """
    data, seed, held = recipe.data, recipe.training.seed, given or {}
    task_class = TASKS[recipe.task.kind]
    needs, unit = task_class.columns, task_class.text_unit(data)
    if data.train is None:
        raise RecipeError("the recipe names no training rows", ["data.train: found null, expected a file"])
    check_sources(data, folder, held)

    def read(source: str, split: str) -> Rows:
        if source == IN_MEMORY and split in held:
            return named_rows(held[split], data.columns, needs=needs)
        return read_rows(source, data, needs=needs, split=split, folder=folder, text_unit=unit)

    def first_of(stream: RowStream) -> Rows:
        """Rows of a stream to hold: of a file with labels from all of it, since files are often sorted by them."""
        if stream.path is None or not task_class.has_labels(recipe.task):
            return stream.take(STREAM_SAMPLE_ROWS)
        return stream.sample(STREAM_SAMPLE_ROWS, seed)

    found: dict[str, Rows] = {}
    stream: RowStream | None = None
    if isinstance(data.validation, str):
        found["validation"] = read(data.validation, "validation")
    if data.test is not None:
        found["test"] = read(data.test, "test")
    if not data.streaming or data.train == IN_MEMORY:
        found["train"] = read(data.train, "train")
    else:
        stream = stream_rows(data.train, data, needs=needs, folder=folder, text_unit=unit)
    splits: dict[str, Rows | RowStream] = dict(found) if stream is None else {"train": stream, **found}
    notes = reading_notes(splits, needs)
    if stream is not None and data.limit is not None:  # so few rows are held in memory after all
        # A file can be gone through once for them; a hub data set may have no end.
        shuffled = stream.shuffled(seed, 0)
        found["train"] = shuffled.take(data.limit) if stream.path is None else stream.sample(data.limit, seed)
        stream = None
    if stream is not None and isinstance(data.validation, float):
        stream, held_out = split_stream(stream, data.validation, seed)
        found["validation"] = first_of(held_out)
    sample = found["train"] if stream is None else first_of(stream)
    # On all rows: a sample of a file may lack some of its labels.
    task = knowing(task_class.prepare(recipe.task, sample), known)
    if data.limit is not None:
        found = {split: rows.sample(data.limit, seed) for split, rows in found.items()}
    checked = {split: task.check_rows(rows, "train" if split == "train" else "score") for split, rows in found.items()}
    usable = {split: as_rows(check.rows) for split, check in checked.items()}
    if recipe.task.abstain is not None and data.validation is None:
        raise RecipeError(
            "task.abstain needs validation rows, on which its threshold is chosen",
            ["data.validation: found null, expected a file or a share of the training rows"],
        )
    notes += [unusable_note(split, found[split], check.problems) for split, check in checked.items() if check.problems]
    if stream is None:
        sample = usable["train"]
        if isinstance(data.validation, float):
            sample, usable["validation"] = split_validation(sample, data.validation, seed, task.stratify_by)
            usable["train"] = sample
    else:
        sample = as_rows(task.check_rows(sample, "train").rows)
    notes += [f"train: {note}" for note in task.notes(sample)]
    shared = overlaps(task, usable)
    notes += [f"{split}: {overlap}" for split, overlap in shared.items() if overlap]
    metric, reason = task.main_metric, ""
    if "validation" in usable:
        metric, reason = task.telling_metric(usable["validation"])
        notes += [f"validation: {reason}; the state that is kept is picked by {metric}"] * bool(reason)
    facts = DataFacts(
        source=data.train,
        revision=data.revision,
        rows={split: len(rows) for split, rows in usable.items()},
        unusable={split: len(check.problems) for split, check in checked.items()},
        label_counts={split: counts for split, rows in usable.items() if (counts := task.label_counts(rows))},
        digests={split: rows.digest() for split, rows in usable.items()},
        shared={split: overlap.count for split, overlap in shared.items()},
    )
    notes += coverage_notes(task, facts.label_counts)
    train = usable["train"] if stream is None else stream
    return RecipeRows(task, metric, train, sample, usable.get("validation"), usable.get("test"), tuple(notes), facts)
