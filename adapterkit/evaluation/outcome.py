"""What an artifact makes of rows whose truth is known: answered once, scored as often as is asked."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from adapterkit.adapted import Adapted
from adapterkit.artifact import Artifact, open_artifact
from adapterkit.artifact.loading import find_backbone
from adapterkit.artifact.saving import package_versions
from adapterkit.backbone import Backbone
from adapterkit.data import IN_MEMORY, Rows, as_rows
from adapterkit.data.problems import unusable_note
from adapterkit.evaluation.rows import data_settings, read_for
from adapterkit.metrics import Compared, Metric
from adapterkit.records import Answerer, RowsUsed
from adapterkit.scoring import outputs_of, texts_of
from adapterkit.tasks.protocol import Feature, GeneratingTask, Task

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

SEED = 0
"""Of every resampling: the same rows give the same intervals."""


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

    def metrics(self, *, resamples: int = 1000) -> dict[str, Metric]:
        """The main one first; see `Task.score`."""
        found = self.task.measured(self.compared, resamples=resamples, seed=SEED)
        if self.texts is None or not isinstance(self.task, GeneratingTask):
            return found
        texts = [self.texts[group[0]] for group in self.task.groups(self.rows)]
        return {**self.task.score_texts(self.rows, texts, resamples=resamples, seed=SEED), **found}

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


class HowAnswered(TypedDict, total=False):
    """How rows are read and answered, wherever artifacts are judged; all of it may be left out.

    Attributes:
        backbone: a loaded backbone, or where to load it from; None takes the one that the artifact names.
        columns: canonical name -> the column of the data, on top of what the artifact's recipe says.
        reading: how a file is read, by the fields of a recipe's data: {"encoding": "cp1252", "delimiter": ";"}.
        data_root: where relative paths are looked for first.
        batch_size: rows that are answered at once.
        parts: where parts of a fusion are, by name; None looks beside the artifact.
    """

    backbone: Backbone | str | Path | None
    columns: Mapping[str, str] | None
    reading: Mapping[str, Any] | None
    data_root: str | Path | None
    batch_size: int
    parts: Mapping[str, str | Path] | None


@dataclass(frozen=True, eq=False)
class Question:
    """An artifact, the usable rows that it is asked, what these were, and where its backbone is."""

    artifact: Artifact
    rows: Rows
    used: RowsUsed
    under: Backbone | str | Path | None = None
    batch_size: int = 64

    @cached_property
    def backbone(self) -> Backbone:
        """The artifact's own, loaded when it is first asked for."""
        return find_backbone(self.artifact, self.under)

    def answers(
        self,
        by: Artifact | None = None,
        *,
        on: Backbone | None = None,
        accelerator: Accelerator | None = None,
        other_version: bool = False,
    ) -> Outcome:
        """What the artifact answers, or another one, on its backbone or on another.

        `accelerator`: the processes that answer a share each, and all of which call this; None for this one alone.
        `other_version`: see `Artifact.adapted`. Raises ArtifactError, ContractError: it cannot be put on the backbone;
        DataError: a label that training did not see.
        """
        asked = by or self.artifact
        with asked.adapted(on or self.backbone, other_version=other_version) as adapted:
            return self.answers_of(adapted, asked, accelerator)

    def answers_of(
        self, adapted: Adapted, by: Artifact | None = None, accelerator: Accelerator | None = None
    ) -> Outcome:
        """What an adapter answers in the name of the artifact, or of another. Errors as of `answers`."""
        task, opened = adapted.task, by or self.artifact
        encoded = task.encode(self.rows, adapted.vocabulary, "score")
        for note in encoded.notes:
            logger.warning("%s", note)
        outputs = outputs_of(adapted, encoded.features, batch_size=self.batch_size, accelerator=accelerator)
        texts: list[str] | None = None
        if isinstance(task, GeneratingTask) and task.generated_metrics:
            found = texts_of(adapted, self.rows, batch_size=self.batch_size, accelerator=accelerator)
            of_row = {row: text for group, text in zip(task.groups(self.rows), found, strict=True) for row in group}
            texts = [of_row[row] for row in range(len(self.rows))]
        answering, kept = Answerer.of(opened.manifest, dtype_of(adapted)), data_settings(opened)
        shows = kept is None or kept.show_rows != "nowhere"
        return Outcome(answering, task, self.rows, encoded.features, outputs, texts, shows)


def ask(artifact: Artifact | str | Path, data: Any = None, **how: Unpack[HowAnswered]) -> Question:
    """Read what an artifact is asked; `data` as of `evaluate`. What a user should know of the rows is logged."""
    if strange := how.keys() - HowAnswered.__annotations__.keys():
        raise TypeError(f"unknown: {', '.join(sorted(strange))}; expected {', '.join(HowAnswered.__annotations__)}")
    opened = artifact if isinstance(artifact, Artifact) else open_artifact(artifact, parts=how.get("parts"))
    rows = read_for(opened, data, columns=how.get("columns"), root=how.get("data_root"), reading=how.get("reading"))
    for note in rows.reading.notes:
        logger.warning("%s: %s", rows.source, note)
    checked = opened.task.check_rows(rows, "score")
    if checked.problems:
        logger.warning(unusable_note(rows.source, rows, checked.problems))
    for note in opened.task.notes(checked.rows):
        logger.warning("%s: %s", rows.source, note)
    usable = as_rows(checked.rows)
    used = RowsUsed(
        source=rows.source or IN_MEMORY, rows=len(usable), unusable=len(checked.problems), digest=usable.digest()
    )
    return Question(opened, usable, used, how.get("backbone"), how.get("batch_size", 64))


def made() -> dict[str, Any]:
    """What every record of an evaluation says of how it was made."""
    return {"made_with": package_versions(), "seed": SEED}


def dtype_of(adapted: Adapted) -> str:
    """The number format of its products, or of narrow weights."""
    return adapted.backbone.quantised or str(adapted.compute_dtype).removeprefix("torch.")
