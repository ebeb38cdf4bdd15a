"""Two answerers on the same rows: differences with intervals, rows that changed sides, and what a difference needs."""

# Axes: N rows, R resamples.

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from adapterkit.metrics.resampling import CONFIDENCE, Metric, Statistics

Verdict = Literal["better", "worse", "no difference shown"]

NORMAL_QUANTILES = 1.959964 + 0.841621
"""Of 95 % confidence on both sides and a power of 80 %."""


@dataclass(frozen=True)
class Difference:
    """The second value less the first, on the same resamples of the same rows.

    Attributes:
        first: the metric of the first.
        second: of the second.
        value: second - first.
        low: of its 95 % paired percentile bootstrap.
        high: of the same; both equal `value` where there is no interval.
        standard_error: of `value`, over the resamples; 0 where there is no interval.
        higher_is_better: of the metric.
    """

    first: float
    second: float
    value: float
    low: float
    high: float
    standard_error: float
    higher_is_better: bool

    @property
    def verdict(self) -> Verdict:
        """What the interval says of the second."""
        if not (self.low > 0 or self.high < 0):
            return "no difference shown"
        return "better" if (self.low > 0) == self.higher_is_better else "worse"


def difference(first: Metric, second: Metric) -> Difference:
    """The paired difference of one metric, measured twice on the same rows with the same seed and resamples."""
    value = second.value - first.value
    low = high = value
    error = 0.0
    if len(first.spread) and len(first.spread) == len(second.spread):
        spread_R = np.asarray(second.spread) - np.asarray(first.spread)
        defined_R = spread_R[np.isfinite(spread_R)]
        if len(defined_R) > 1:
            tail = (1 - CONFIDENCE) / 2 * 100
            low, high = map(float, np.percentile(defined_R, [tail, 100 - tail]))
            error = float(defined_R.std(ddof=1))
    return Difference(first.value, second.value, value, low, high, error, first.higher_is_better)


def rows_to_show(point: float, found: Difference, rows: int) -> int | None:
    """Rows on which a true difference of `point` would be shown in four cases of five, given how `rows` rows differ.

    n = (z₀.₉₇₅ + z₀.₈)² σ² / point², σ² = rows × standard error². None where no row's difference is seen.
    """
    if not (found.standard_error > 0 and math.isfinite(found.standard_error)):
        return None
    return max(2, math.ceil(rows * (NORMAL_QUANTILES * found.standard_error / point) ** 2))


@dataclass(frozen=True)
class ChangedSides:
    """Rows that one of two answered right and the other wrong.

    Attributes:
        gained: places of the rows that the second alone answered right.
        lost: of those that the first alone did.
        p_value: of McNemar's exact test: how often chance alone, with either side as likely, splits the rows that
            changed at least so unevenly. 1 where none changed.
    """

    gained: tuple[int, ...]
    lost: tuple[int, ...]
    p_value: float


def changed_sides(first_right: Statistics, second_right: Statistics) -> ChangedSides:
    """Compare (N,) rights row by row (McNemar 1947, exact: a binomial with p = 1/2)."""
    gained = np.flatnonzero((first_right == 0) & (second_right == 1))
    lost = np.flatnonzero((first_right == 1) & (second_right == 0))
    return ChangedSides(tuple(gained.tolist()), tuple(lost.tolist()), _two_sided(len(gained), len(lost)))


def _two_sided(gained: int, lost: int) -> float:
    total, fewer = gained + lost, min(gained, lost)
    at_most_fewer, term = 0, 1  # C(total, k), summed in whole numbers
    for count in range(fewer + 1):
        at_most_fewer += term
        term = term * (total - count) // (count + 1)
    return min(1.0, 2 * at_most_fewer / (1 << total))


def thirds(values: Sequence[float]) -> list[tuple[float, float]]:
    """Bounds, both inclusive, that cut values into three parts with about as many in each; fewer where values tie."""
    edges = np.quantile(np.asarray(values, dtype=np.float64), [1 / 3, 2 / 3, 1], method="inverted_cdf")
    found, low = [], min(values)
    for high in dict.fromkeys(edges.tolist()):
        found.append((low, high))
        low = min((value for value in values if value > high), default=high)
    return found
