"""Metrics with bootstrap confidence intervals.

Every metric is a function of per-row sufficient statistics: numbers that add up over rows (hits, counts, sums of
products). A resample of the rows is then a weighted sum of the statistics, and a thousand resamples are one matrix
product; no metric is computed from texts twice.
"""

# Axes: N rows, R resamples, S statistics.

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterkit.glance import in_short

Numbers = NDArray[np.float64]
Formula = Callable[[Numbers], Numbers]
"""(R, N): how many times each item is in each resample -> (R,) values of a metric."""

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
    items: int, formulas: Mapping[str, Formula], directions: Mapping[str, bool], *, resamples: int = 1000, seed: int = 0
) -> dict[str, Metric]:
    """Every metric of `formulas`, with intervals over resampled items: rows, or groups of rows that belong together.

    Args:
        items: how many.
        formulas: metric -> its values from how many times each item is in each resample; see `ratio_of`, `of_sums`.
        directions: metric -> whether higher is better.
        resamples: how many bootstrap samples; 0 gives low = high = value.
        seed: of the resampling; the same seed gives the same interval.
    """
    if items == 0:
        return {name: Metric(float("nan"), float("nan"), float("nan"), directions[name]) for name in formulas}
    once_1N = np.ones((1, items))
    values = {name: float(formula(once_1N)[0]) for name, formula in formulas.items()}
    spread: dict[str, list[Numbers]] = {name: [] for name in formulas}
    for times_RN in _resamples(items, resamples, seed):
        for name, formula in formulas.items():
            spread[name].append(formula(times_RN))
    return {name: _metric(values[name], spread[name], directions[name]) for name in formulas}


def ratio_of(above_N: Any, below_N: Any = None) -> Formula:
    """The sum of one number of every item over that of another, or over how many items there are; 0 where that is 0."""
    above_N = np.asarray(above_N, dtype=np.float64)
    below_N = np.ones(len(above_N)) if below_N is None else np.asarray(below_N, dtype=np.float64)
    return lambda times_RN: ratio(times_RN @ above_N, times_RN @ below_N)


def of_sums(statistics_NS: Any, formula: Callable[[Numbers], Numbers]) -> Formula:
    """What a formula, vectorised over leading axes, makes of the sums of every item's statistics."""
    statistics_NS = np.asarray(statistics_NS, dtype=np.float64)
    return lambda times_RN: formula(times_RN @ statistics_NS)


def _resamples(items: int, resamples: int, seed: int) -> Iterator[Numbers]:
    """How many times each item is in each resample, (R, N), a few resamples at a time."""
    chance = np.random.default_rng(seed)
    step = max(1, _CHUNK_CELLS // items)
    for first in range(0, resamples, step):
        count = min(step, resamples - first)
        drawn = chance.integers(0, items, size=(count, items))
        drawn += np.arange(count)[:, None] * items
        yield np.bincount(drawn.ravel(), minlength=count * items).reshape(count, items).astype(np.float64)


def _metric(value: float, spread: Sequence[Numbers], higher_is_better: bool) -> Metric:
    spread_R = np.concatenate([np.zeros(0), *spread])
    defined_R = spread_R[np.isfinite(spread_R)]
    if not len(defined_R):
        return Metric(value, value, value, higher_is_better)
    tail = (1 - CONFIDENCE) / 2 * 100
    low, high = np.percentile(defined_R, [tail, 100 - tail])
    return Metric(value, float(low), float(high), higher_is_better, spread=tuple(spread_R.tolist()))


def ratio(above: Any, below: Any) -> Any:
    """above / below, and 0 where below is 0."""
    above, below = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    nothing = np.zeros(np.broadcast_shapes(above.shape, below.shape))
    return np.divide(above, below, out=nothing, where=below != 0)
