"""Two artifacts on the same rows: the difference of every metric, of slices of the rows, and a verdict."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field

from adapterkit.metrics.paired import ChangedSides, Difference, Verdict
from adapterkit.records.record import Answerer, Number, Record, RowsUsed, Values


class DifferenceRecord(Values):
    """b - a with its 95 % paired interval; see `metrics.paired.Difference`."""

    a: Number
    b: Number
    difference: Number
    low: Number
    high: Number
    higher_is_better: bool
    verdict: Verdict

    @classmethod
    def of(cls, found: Difference) -> Self:
        """From what was computed."""
        return cls(
            a=found.first,
            b=found.second,
            difference=found.value,
            low=found.low,
            high=found.high,
            higher_is_better=found.higher_is_better,
            verdict=found.verdict,
        )


class SliceRecord(DifferenceRecord):
    """The main metric on some of the rows.

    Attributes:
        by: what they have in common: "label", "length", or a column.
        name: the label, the range of lengths, or the column's value.
        rows: how many.
    """

    by: str
    name: str
    rows: int


class SidesRecord(Values):
    """Rows that changed sides, and McNemar's exact test.

    Attributes:
        gained: how many b alone answered right.
        lost: how many a alone did.
        p_value: see `metrics.paired.ChangedSides`.
        gained_rows: numbers of the first of these rows, as lines of the data.
        lost_rows: of those.
    """

    gained: int
    lost: int
    p_value: float
    gained_rows: tuple[int, ...]
    lost_rows: tuple[int, ...]

    @classmethod
    def of(cls, found: ChangedSides, numbers: list[int], shown: int) -> Self:
        """From what was computed, with the number of every row."""
        return cls(
            gained=len(found.gained),
            lost=len(found.lost),
            p_value=found.p_value,
            gained_rows=tuple(numbers[place] for place in found.gained[:shown]),
            lost_rows=tuple(numbers[place] for place in found.lost[:shown]),
        )


class ComparisonRecord(Record):
    """`adapterkit compare A B --json`.

    Attributes:
        a: the one to compare with.
        b: the one that is judged.
        data: the rows that both can use.
        resamples: of the bootstrap behind the intervals.
        metric: the main one, which decides.
        verdict: what its interval says of b.
        rows_for_a_point: rows on which a true difference of 0.01 would be shown; null where none is seen, or where the
            metric is no share.
        metrics: every metric's difference.
        sides: null where an answer is neither right nor wrong.
        slices: of the main metric.
        slices_left_out: those with too few rows, or beyond the largest ones.
        false_alarms: how many intervals of slices miss 0 by chance alone, on average, where a and b do not differ.
    """

    form: Literal["adapterkit.comparison/1"] = Field("adapterkit.comparison/1", alias="schema")
    a: Answerer
    b: Answerer
    data: RowsUsed
    resamples: int
    metric: str
    verdict: Verdict
    rows_for_a_point: int | None
    metrics: dict[str, DifferenceRecord]
    sides: SidesRecord | None
    slices: tuple[SliceRecord, ...]
    slices_left_out: int
    false_alarms: float
