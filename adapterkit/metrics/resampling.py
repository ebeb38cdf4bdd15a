"""Metrics with bootstrap confidence intervals.

Every metric is a function of per-row sufficient statistics: numbers that add up over rows (hits, counts, sums of
products). A resample of the rows is then a weighted sum of the statistics, and a thousand resamples are one matrix
product; no metric is computed from texts twice.
"""

# Axes: N rows, R resamples, S statistics.

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterkit.glance import in_short

Statistics = NDArray[np.float64]
Formula = Callable[[Statistics], Statistics]
"""(…, S) summed statistics -> (…) values of a metric."""

CONFIDENCE = 0.95
_CHUNK_CELLS = 500_000
"""Of resamples at once: three arrays of 4 MB, whatever the rows."""


@dataclass(frozen=True)
class Metric:
    """A number with its interval.

    Attributes:
        value: the metric on all rows.
        low, high: 95 % percentile bootstrap over rows (Efron and Tibshirani 1993, chapter 13); both equal `value`
            where no interval was asked for.
        higher_is_better: whether a larger value is better.
        how: how it was measured, where that follows from the rows (the tokens of a script); "" for the usual way.
        spread: the metric on every resample, in an order that rows and seed alone decide, so that two metrics of the
            same rows pair up; () where no interval was asked for.
    """

    value: float
    low: float
    high: float
    higher_is_better: bool = True
    how: str = ""
    spread: Sequence[float] = field(default=(), compare=False, repr=False)

    __repr__ = in_short("value", "low", "high")

    @property
    def standard_error(self) -> float:
        """A fourth of the interval's width, as of a normal distribution; 0 where there is no interval."""
        width = (self.high - self.low) / 4
        return width if math.isfinite(width) else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "higher_is_better": self.higher_is_better,
            **({"how": self.how} if self.how else {}),
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
    weighted = of_sums(statistics_NS, formulas)
    return bootstrap_weighted(len(statistics_NS), weighted, directions, resamples=resamples, seed=seed)


def bootstrap_weighted(
    rows: int, formulas: Mapping[str, Formula], directions: Mapping[str, bool], *, resamples: int = 1000, seed: int = 0
) -> dict[str, Metric]:
    """As `bootstrap`, for metrics that are no function of sums (rank correlation).
    `formulas`: metric -> (R,) values from (R, N): how many times each row is in each resample."""
    if rows == 0:
        return {name: Metric(float("nan"), float("nan"), float("nan"), directions[name]) for name in formulas}
    once_1N = np.ones((1, rows))
    values = {name: float(formula(once_1N)[0]) for name, formula in formulas.items()}
    spread: dict[str, list[Statistics]] = {name: [] for name in formulas}
    for times_RN in _resamples(rows, resamples, seed):
        for name, formula in formulas.items():
            spread[name].append(formula(times_RN))
    return {name: _metric(values[name], spread[name], directions[name]) for name in formulas}


def mean_of(values_N: Any) -> Formula:
    """The mean of one number for every item, as `bootstrap_weighted` asks for it."""
    values_N = np.asarray(values_N, dtype=np.float64)
    return lambda times_RN: times_RN @ values_N / times_RN.sum(axis=-1)


def of_sums(statistics_NS: Any, formulas: Mapping[str, Formula]) -> dict[str, Formula]:
    """Formulas of summed statistics as `bootstrap_weighted` asks for them."""
    statistics_NS = np.asarray(statistics_NS, dtype=np.float64)
    return {name: partial(_of_sums, formula, statistics_NS) for name, formula in formulas.items()}


def _of_sums(formula: Formula, statistics_NS: Statistics, times_RN: Statistics) -> Statistics:
    return formula(times_RN @ statistics_NS)


def _resamples(rows: int, resamples: int, seed: int) -> Iterator[Statistics]:
    """How many times each row is in each resample, (R, N), a few resamples at a time."""
    chance = np.random.default_rng(seed)
    step = max(1, _CHUNK_CELLS // rows)
    for first in range(0, resamples, step):
        count = min(step, resamples - first)
        drawn = chance.integers(0, rows, size=(count, rows))
        drawn += np.arange(count)[:, None] * rows
        yield np.bincount(drawn.ravel(), minlength=count * rows).reshape(count, rows).astype(np.float64)


def _metric(value: float, spread: Sequence[Statistics], higher_is_better: bool) -> Metric:
    spread_R = np.concatenate([np.zeros(0), *spread])
    defined_R = spread_R[np.isfinite(spread_R)]
    if not len(defined_R):
        return Metric(value, value, value, higher_is_better)
    tail = (1 - CONFIDENCE) / 2 * 100
    low, high = np.percentile(defined_R, [tail, 100 - tail])
    return Metric(value, float(low), float(high), higher_is_better, spread=tuple(spread_R.tolist()))


def ratio(numerator: Any, denominator: Any, empty: float = 0.0) -> Any:
    """numerator / denominator, and `empty` where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(
        np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    )
    safe = np.where(denominator == 0, 1.0, denominator)
    return np.where(denominator == 0, empty, numerator / safe)
