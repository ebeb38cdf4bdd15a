"""Two answerers on the same rows: differences with intervals, rows that changed sides, and what a difference needs."""

# Axes: N rows, R resamples.

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from adapterkit.metrics.resampling import CONFIDENCE, Metric, Numbers

Verdict = Literal["better", "worse", "no difference shown"]

SHOWN_ROWS = 1000
NORMAL_QUANTILES = 1.959964 + 0.841621
"""Of 95 % confidence on both sides and a power of 80 %."""


@dataclass(frozen=True)
class Difference:
    """The second value less the first (b - a), on the same resamples of the same rows: its 95 % paired percentile
    bootstrap, both ends of which equal it where there is no interval, its standard error, 0 there, and what the
    interval says of the second."""

    a: float
    b: float
    difference: float
    low: float
    high: float
    standard_error: float
    higher_is_better: bool
    verdict: Verdict


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
    better = first.higher_is_better
    return Difference(first.value, second.value, value, low, high, error, better, verdict_of(low, high, better))


def verdict_of(low: float, high: float, higher_is_better: bool = True) -> Verdict:
    """What the interval of a difference says of the second."""
    if not (low > 0 or high < 0):
        return "no difference shown"
    return "better" if (low > 0) == higher_is_better else "worse"


def rows_to_show(point: float, found: Difference, rows: int) -> int | None:
    """Rows on which a true difference of `point` would be shown in four cases of five, given how `rows` rows differ.

    n = (z₀.₉₇₅ + z₀.₈)² σ² / point², σ² = rows × standard error². None where no row's difference is seen.
    """
    if not (found.standard_error > 0 and math.isfinite(found.standard_error)):
        return None
    return max(2, math.ceil(rows * (NORMAL_QUANTILES * found.standard_error / point) ** 2))


@dataclass(frozen=True)
class ChangedSides:
    """Rows that one of two answered right and the other wrong: how many the second alone (`gained`) and the first alone
    (`lost`), with the numbers of the first 1,000 of each.

    `p_value`: of McNemar's exact test: how often chance alone, with either side as likely, splits the rows that changed
    at least so unevenly. 1 where none changed.
    """

    gained: int
    lost: int
    p_value: float
    gained_rows: tuple[int, ...]
    lost_rows: tuple[int, ...]


def changed_sides(first_right: Numbers, second_right: Numbers, numbers: Sequence[int]) -> ChangedSides:
    """Compare (N,) rights row by row (McNemar 1947, exact: a binomial with p = 1/2), rows having numbers."""
    from scipy.stats import binom

    gained, lost = (
        [number for number, changed in zip(numbers, before - after, strict=True) if changed < 0]
        for before, after in ((first_right, second_right), (second_right, first_right))
    )
    at_most_fewer = float(binom.cdf(min(len(gained), len(lost)), len(gained) + len(lost), 0.5))
    p_value, most = min(1.0, 2 * at_most_fewer), SHOWN_ROWS
    return ChangedSides(len(gained), len(lost), p_value, tuple(gained[:most]), tuple(lost[:most]))


def thirds(values: Sequence[float]) -> list[tuple[float, float]]:
    """Bounds, both inclusive, that cut values into three parts with about as many in each; fewer where values tie."""
    edges = np.quantile(np.asarray(values, dtype=np.float64), [1 / 3, 2 / 3, 1], method="inverted_cdf")
    found, low = [], min(values)
    for high in dict.fromkeys(edges.tolist()):
        found.append((low, high))
        low = min((value for value in values if value > high), default=high)
    return found
