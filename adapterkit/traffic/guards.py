"""Bounds that a version has to keep while it answers, and the evidence with which it is taken off.

A guard trips when a share or a mean lies beyond its bound for certain: all guards of a version together trip on one
that keeps them with a probability of at most `alpha` for every `window` rows. After a window counting begins anew, so
that a version which was good for long is found out as soon as a new one.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from adapterkit.traffic.sequences import MeanSequence, log_evidence, share_interval
from adapterkit.traffic.tallies import Tally

Share = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True)
class Tripped:
    """A guard that a version broke: the `value` that was found on how many `rows`, in an interval from low to high."""

    guard: str
    bound: float
    """What it allows, as a share or a mean."""
    at_most: bool
    """Whether the bound is the most that it allows; else the least."""
    value: float
    low: float
    high: float
    rows: int
    alpha: float
    """How often the interval ever misses."""

    def __str__(self) -> str:
        side = "at most" if self.at_most else "at least"
        what = "share of slow answers" if self.guard == "latency_ms" else self.guard
        return (
            f"{what} {self.value:.3f} [{self.low:.3f}, {self.high:.3f}] on {self.rows:,} rows, "
            f"expected {side} {self.bound:g}"
        )

    def as_json(self) -> dict[str, Any]:
        """For the audit and for alerts."""
        return {**asdict(self), "detail": str(self)}


class Guards(BaseModel):
    """What a version has to keep. What is not given is not looked at."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    bounds: ClassVar[tuple[str, ...]] = ("errors", "latency_ms", "confidence", "disagreement", "feedback")

    errors: Share | None = None
    """The largest share of rows without an answer; rows that are wrong by themselves do not count."""
    latency_ms: Annotated[float, Field(gt=0)] | None = None
    """What at most a share of `slow` answers takes longer, from asked to answered."""
    slow: Share = 0.05
    """That share."""
    confidence: Share | None = None
    """The least mean confidence."""
    disagreement: Share | None = None
    """The largest share of answers that differ from those of what answers, for a shadow."""
    feedback: Share | None = None
    """The least share of answers that feedback calls right."""
    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.01
    """How often a version that keeps all bounds may be taken off, per window."""
    window: Annotated[int, Field(ge=100, le=10_000_000)] = 10_000
    """Rows after which counting begins anew."""

    @property
    def each(self) -> float:
        """The alpha of one guard."""
        return self.alpha / max(1, sum(getattr(self, name) is not None for name in self.bounds))

    def tally(self) -> Tally:
        """An empty one for these guards."""
        return Tally(alpha=self.each, confidence=MeanSequence(self.each))

    def tripped(self, tally: Tally) -> Tripped | None:
        """The first guard that this version has broken for certain."""
        limit = -math.log(self.each)
        for name, part, rows, bound, at_most in self._shares(tally):
            beyond = part > bound * rows if at_most else part < bound * rows
            if rows and beyond and float(log_evidence(part, rows, bound)) >= limit:
                found = share_interval(part, rows, self.each)
                return Tripped(name, bound, at_most, found.value, found.low, found.high, rows, self.each)
        if self.confidence is not None and tally.confidence.mean < self.confidence:
            mean = tally.confidence.interval()
            if mean.high < self.confidence:
                rows = tally.confidence.rows
                return Tripped("confidence", self.confidence, False, mean.value, mean.low, mean.high, rows, self.each)
        return None

    def _shares(self, tally: Tally) -> Iterator[tuple[str, int, int, float, bool]]:
        """Guard, count, of how many, bound, and whether it is the most that is allowed."""
        if self.errors is not None:
            yield "errors", tally.errors, tally.rows, self.errors, True
        if self.latency_ms is not None:
            yield "latency_ms", tally.slow, tally.rows, self.slow, True
        if self.disagreement is not None:
            yield "disagreement", tally.differing, tally.compared, self.disagreement, True
        if self.feedback is not None:
            yield "feedback", tally.right, tally.told, self.feedback, False
