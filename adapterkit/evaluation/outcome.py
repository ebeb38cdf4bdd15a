"""What an artifact makes of rows whose truth is known: answered once, scored as often as is asked."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterkit.adapted import Adapted
from adapterkit.artifact import Artifact
from adapterkit.backbone import Backbone
from adapterkit.data import Rows, as_rows
from adapterkit.data.problems import unusable_note
from adapterkit.evaluation.rows import data_settings, read_for, rows_for
from adapterkit.metrics import Compared, Metric
from adapterkit.records import Answerer, RowsUsed
from adapterkit.scoring import outputs_of, texts_of
from adapterkit.tasks.protocol import Feature, GeneratingTask, Task

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

IN_MEMORY = "rows in memory"


@dataclass(frozen=True, eq=False)
class Outcome:
    """Usable rows with the answers of a task that reads and scores them: features of `encode(rows, …, "score")`, an
    output for each, the generated text of each row's group (None where no metric wants one), and whether texts of rows
    may be shown, as the artifact's recipe says (`data.show_rows`)."""

    answering: Answerer
    task: Task
    rows: Rows
    features: Sequence[Feature]
    outputs: Sequence[Any]
    texts: Sequence[str] | None
    shows_rows: bool = True

    def metrics(self, *, resamples: int = 1000, seed: int = 0) -> dict[str, Metric]:
        """The main one first; see `Task.score`."""
        found = self.task.measured(self.compared, resamples=resamples, seed=seed)
        if self.texts is None or not isinstance(self.task, GeneratingTask):
            return found
        texts = [self.texts[group[0]] for group in self.task.groups(self.rows)]
        return {**self.task.score_texts(self.rows, texts, resamples=resamples, seed=seed), **found}

    @cached_property
    def compared(self) -> Compared:
        """The answers beside the right ones."""
        return self.task.compared(self.rows, self.features, self.outputs)

    def only(self, places: Sequence[int]) -> Outcome:
        """The same of some rows, by their places from 0."""
        new = {old: place for place, old in enumerate(places)}
        kept = [at for at, feature in enumerate(self.features) if feature.row in new]
        features = [replace(self.features[at], row=new[self.features[at].row]) for at in kept]
        texts = None if self.texts is None else [self.texts[place] for place in places]
        outputs = [self.outputs[at] for at in kept]
        return replace(self, rows=self.rows.select(places), features=features, outputs=outputs, texts=texts)


def rows_to_answer(
    opened: Artifact,
    data: Any = None,
    *,
    columns: Mapping[str, str] | None = None,
    root: str | Path | None = None,
    reading: Mapping[str, Any] | None = None,
) -> tuple[Rows, RowsUsed]:
    """Usable rows, and what they were; arguments as those of `evaluate`. What a user should know of them is logged."""
    if data is None or isinstance(data, str | Path):
        rows = read_for(opened, None if data is None else str(data), columns=columns, root=root, reading=reading)
    else:
        rows = rows_for(opened, data, columns=columns)
    for note in rows.reading.notes:
        logger.warning("%s: %s", rows.source, note)
    checked = opened.task.check_rows(rows, "score")
    if checked.problems:
        logger.warning(unusable_note(rows.source, rows, checked.problems))
    for note in opened.task.notes(checked.rows):
        logger.warning("%s: %s", rows.source, note)
    usable = as_rows(checked.rows)
    return usable, RowsUsed(
        source=rows.source or IN_MEMORY, rows=len(usable), unusable=len(checked.problems), digest=usable.digest()
    )


def answer_rows(
    opened: Artifact,
    rows: Rows,
    backbone: Backbone,
    *,
    batch_size: int = 64,
    accelerator: Accelerator | None = None,
    other_version: bool = False,
) -> Outcome:
    """Let an artifact answer usable rows. `accelerator`: the processes that answer a share each, and all of which call
    this; None for this one alone. `other_version`: see `Artifact.adapted`. Raises ArtifactError, ContractError: it
    cannot be put on the backbone; DataError: a label that training did not see."""
    with opened.adapted(backbone, other_version=other_version) as adapted:
        return outcome_of(adapted, opened, rows, batch_size=batch_size, accelerator=accelerator)


def outcome_of(
    adapted: Adapted, opened: Artifact, rows: Rows, *, batch_size: int = 64, accelerator: Accelerator | None = None
) -> Outcome:
    """Let an adapter answer usable rows in the name of the artifact that it comes from. Errors as of `answer_rows`."""
    task = adapted.task
    encoded = task.encode(rows, adapted.vocabulary, "score")
    for note in encoded.notes:
        logger.warning("%s", note)
    outputs = outputs_of(adapted, encoded.features, batch_size=batch_size, accelerator=accelerator)
    texts: list[str] | None = None
    if isinstance(task, GeneratingTask) and task.generated_metrics:
        found = texts_of(adapted, rows, batch_size=batch_size, accelerator=accelerator)
        of_row = {row: text for group, text in zip(task.groups(rows), found, strict=True) for row in group}
        texts = [of_row[row] for row in range(len(rows))]
    answering, kept = Answerer.of(opened.manifest, dtype_of(adapted)), data_settings(opened)
    shows = kept is None or kept.show_rows != "nowhere"
    return Outcome(answering, task, rows, encoded.features, outputs, texts, shows)


def dtype_of(adapted: Adapted) -> str:
    """The number format of its products, or of narrow weights."""
    return adapted.backbone.quantised or str(adapted.compute_dtype).removeprefix("torch.")
