"""Compare two artifacts on the same rows."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from adapterkit.artifact import Artifact, open_artifact
from adapterkit.artifact.loading import find_backbone
from adapterkit.backbone import Backbone
from adapterkit.data import Rows
from adapterkit.data.problems import unusable_note
from adapterkit.errors import DataError
from adapterkit.evaluation.outcome import HowAnswered, Outcome, Question, ask, made
from adapterkit.metrics import Metric
from adapterkit.metrics.paired import changed_sides, difference, rows_to_show, thirds
from adapterkit.metrics.resampling import CONFIDENCE
from adapterkit.records import ComparisonRecord, RowsUsed
from adapterkit.records.evaluation import SliceRecord
from adapterkit.tasks.labels import label_name

logger = logging.getLogger(__name__)

FEWEST_ROWS = 10
"""Of a slice: an interval over fewer says nothing."""
MOST_SLICES = 100
POINTS: Mapping[str, float | None] = {
    "chrf": 1.0,
    "bleu": 1.0,
    **dict.fromkeys(("mse", "loss", "perplexity", "bits_per_character")),
}
"""Metric -> what one point of it is, where that is not 0.01; None where it is no share."""
MOST_VALUES = 50
"""Of a column that rows are sliced by."""


def compare(
    a: str | Path,
    b: str | Path,
    data: Any = None,
    *,
    by: Sequence[str] = (),
    other_backbone: Backbone | str | Path | None = None,
    resamples: int = 1000,
    **how: Unpack[HowAnswered],
) -> ComparisonRecord:
    """Say whether `b` answers better than `a` beyond chance, by how much, and on which rows.

    Args:
        a: the folder of the artifact to compare with.
        b: the folder of the one that is judged.
        data: rows, as `evaluate` takes them, and its other arguments; None takes the test rows of a's recipe.
        by: columns of the rows by whose values they are sliced, beside their label and their length.
        other_backbone: of `b`; None takes that of `a` where it fits, else the one that `b` names.

    Raises:
        ArtifactError, ContractError, BackboneError: an artifact or its backbone cannot be used.
        DataError: the two answer different questions, no row can be used by both, or a column cannot slice them.
    """
    first, second = (open_artifact(one, parts=how.get("parts")) for one in (a, b))
    _check_comparable(first, second)
    question = _usable_by(second, ask(first, data, **how))
    _check_slicing(question.rows, by)
    shared = other_backbone is None and second.manifest.backbone.fingerprint == first.manifest.backbone.fingerprint
    before = question.answers()
    other = None if shared else find_backbone(second, other_backbone)
    return compare_outcomes(before, question.answers(second, on=other), question.used, by, resamples)


def compare_outcomes(
    a: Outcome, b: Outcome, used: RowsUsed, by: Sequence[str] = (), resamples: int = 1000
) -> ComparisonRecord:
    """Compare two sets of answers to the same rows. Raises DataError where texts were cut into other tokens."""
    if a.task.proof == "score" and [f.length_tokens for f in a.features] != [f.length_tokens for f in b.features]:
        raise DataError(
            "the two backbones cut the rows into other tokens, so that figures per token cannot be compared",
            remedy="Compare adapters of one tokenizer.",
        )
    slices = dict(_slices(a, by))
    metrics = _paired(a, b, resamples)
    name = a.task.main_metric
    main = difference(*metrics[name])
    kept = sorted((key for key, places in slices.items() if len(places) >= FEWEST_ROWS), key=lambda k: -len(slices[k]))
    chosen = [key for key in slices if key in set(kept[:MOST_SLICES])]
    found = []
    for key in chosen:
        pair = _paired(a.only(slices[key]), b.only(slices[key]), resamples)[name]
        found.append(SliceRecord(by=key[0], name=key[1], rows=len(slices[key]), difference=difference(*pair)))
    sides = None
    judged_a, judged_b = a.compared.judged, b.compared.judged
    if judged_a is not None and judged_b is not None:
        sides = changed_sides(judged_a.right, judged_b.right, list(a.rows.numbers))
    point = POINTS.get(name, 0.01)
    return ComparisonRecord(
        **made(),
        a=a.answering,
        b=b.answering,
        data=used,
        resamples=resamples,
        metric=name,
        verdict=main.verdict,
        rows_for_a_point=None if point is None else rows_to_show(point, main, len(a.rows)),
        metrics={each: difference(*pair) for each, pair in metrics.items()},
        sides=sides,
        slices=tuple(found),
        slices_left_out=len(slices) - len(chosen),
        false_alarms=round((1 - CONFIDENCE) * len(chosen), 2),
    )


def _paired(a: Outcome, b: Outcome, resamples: int) -> dict[str, tuple[Metric, Metric]]:
    first, second = (one.metrics(resamples=resamples) for one in (a, b))
    return {name: (metric, second[name]) for name, metric in first.items()}


def _check_comparable(a: Artifact, b: Artifact) -> None:
    if (a.task.kind, a.task.problem, a.task.metrics) != (b.task.kind, b.task.problem, b.task.metrics):
        told = [
            f"{one.folder}: {one.task.problem or one.task.kind}, scored by {', '.join(one.task.metrics)}"
            for one in (a, b)
        ]
        raise DataError("the two artifacts answer different questions", told, "Compare artifacts of one task.")


def _usable_by(other: Artifact, question: Question) -> Question:
    """The same of the rows that another artifact can use too."""
    rows, used = question.rows, question.used
    checked = other.task.check_rows(rows, "score")
    if not checked.problems:
        return question
    logger.warning(unusable_note(f"{used.source}, by {other.folder},", rows, checked.problems))
    bad = {number for number, _ in checked.problems}
    kept = rows.select(place for place, number in enumerate(rows.numbers) if number not in bad)
    more = used.unusable + len(rows) - len(kept)
    used = used.model_copy(update={"rows": len(kept), "unusable": more, "digest": kept.digest()})
    return replace(question, rows=kept, used=used)


def _slices(outcome: Outcome, by: Sequence[str]) -> Iterator[tuple[tuple[str, str], list[int]]]:
    """(what, which) -> places of rows: by label where a row has one, by thirds of length, by columns."""
    rows, label = outcome.rows, outcome.task.stratify_by
    if label is not None and not any(isinstance(value, list) for value in rows.column(label)):
        yield from _grouped("label", map(label_name, rows.column(label)))
    lengths = [0] * len(rows)
    for feature in outcome.features:
        lengths[feature.row] += feature.length_tokens
    for low, high in thirds(lengths):
        inside = [place for place, length in enumerate(lengths) if low <= length <= high]
        yield ("length", f"{low:.0f} to {high:.0f} tokens"), inside
    for column in by:
        yield from _grouped(column, map(str, rows.column(column)))


def _check_slicing(rows: Rows, by: Sequence[str]) -> None:
    problems = []
    for column in by:
        values = len(set(map(str, rows.column(column))))
        if column not in rows.columns:
            problems.append(f"{column}: no such column, found {', '.join(rows.columns)}")
        elif values > MOST_VALUES:
            problems.append(f"{column}: {values:,} values, expected at most {MOST_VALUES}")
    if problems:
        raise DataError(
            "rows cannot be sliced so", problems, "Slice by a column of groups: a source, a language, a year."
        )


def _grouped(what: str, values: Iterable[str]) -> Iterator[tuple[tuple[str, str], list[int]]]:
    groups: dict[str, list[int]] = {}
    for place, value in enumerate(values):
        groups.setdefault(value, []).append(place)
    for name in sorted(groups):
        yield (what, name), groups[name]
