"""Metrics with bootstrap confidence intervals.

Every metric is a function of per-row sufficient statistics: numbers that add up over rows (hits, counts, sums of
products). A resample of the rows is then a weighted sum of the statistics, and a thousand resamples are one matrix
product; no metric is computed from texts twice.
"""

# Axes: N rows, R resamples, S statistics.

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Statistics = NDArray[np.float64]
Formula = Callable[[Statistics], Statistics]
"""(…, S) summed statistics -> (…) values of a metric."""

CONFIDENCE = 0.95
_CHUNK_CELLS = 4_000_000


@dataclass(frozen=True)
class Metric:
    """A number with its interval.

    Attributes:
        value: the metric on all rows.
        low, high: 95 % percentile bootstrap over rows (Efron and Tibshirani 1993, chapter 13); both equal `value`
            where no interval was asked for.
        higher_is_better: whether a larger value is better.
    """

    value: float
    low: float
    high: float
    higher_is_better: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "higher_is_better": self.higher_is_better,
        }


def bootstrap(
    statistics_NS: Any,
    formulas: Mapping[str, Formula],
    directions: Mapping[str, bool],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Metric]:
    """Every metric of `formulas` on the sums of the rows' statistics, with intervals over resampled rows.

    Args:
        statistics_NS: (N, S), one row of statistics per row of data (per group, where rows belong together).
        formulas: metric -> value from summed statistics; vectorised over leading axes.
        directions: metric -> whether higher is better.
        resamples: how many bootstrap samples; 0 gives low = high = value.
        seed: of the resampling; the same seed gives the same interval.
    """
    statistics_NS = np.asarray(statistics_NS, dtype=np.float64)
    rows = len(statistics_NS)
    if rows == 0:
        return {name: Metric(float("nan"), float("nan"), float("nan"), directions[name]) for name in formulas}
    total_S = statistics_NS.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = {name: float(formula(total_S)) for name, formula in formulas.items()}
        if not resamples:
            return {name: Metric(value, value, value, directions[name]) for name, value in values.items()}
        sums_RS = _resampled_sums(statistics_NS, resamples, seed)
        spread = {name: formula(sums_RS) for name, formula in formulas.items()}
    return {name: _metric(values[name], spread[name], directions[name]) for name in formulas}


def _resampled_sums(statistics_NS: Statistics, resamples: int, seed: int) -> Statistics:
    """(R, S): the summed statistics of every resample."""
    rows = len(statistics_NS)
    chance = np.random.default_rng(seed)
    step = max(1, _CHUNK_CELLS // rows)
    parts = []
    for first in range(0, resamples, step):
        count = min(step, resamples - first)
        drawn = chance.integers(0, rows, size=(count, rows))
        drawn += np.arange(count)[:, None] * rows
        times_RN = np.bincount(drawn.ravel(), minlength=count * rows).reshape(count, rows)
        parts.append(times_RN.astype(np.float64) @ statistics_NS)
    return np.concatenate(parts)


def _metric(value: float, spread_R: Statistics, higher_is_better: bool) -> Metric:
    defined_R = spread_R[np.isfinite(spread_R)]
    if not len(defined_R):
        return Metric(value, value, value, higher_is_better)
    tail = (1 - CONFIDENCE) / 2 * 100
    low, high = np.percentile(defined_R, [tail, 100 - tail])
    return Metric(value, float(low), float(high), higher_is_better)


def ratio(numerator: Any, denominator: Any, empty: float = 0.0) -> Any:
    """numerator / denominator, and `empty` where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(
        np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    )
    safe = np.where(denominator == 0, 1.0, denominator)
    return np.where(denominator == 0, empty, numerator / safe)
