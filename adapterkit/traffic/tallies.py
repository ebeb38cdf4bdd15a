"""What was seen of one version since it began to answer, as numbers; and whether it answers better than another."""

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from adapterkit.traffic.sequences import (
    AnytimeInterval,
    MeanSequence,
    difference_interval,
    log_evidence_of_difference,
    share_interval,
)

RECENT = 1024
"""Answers whose times are kept for quantiles."""
MOST_LABELS = 256
"""Labels that are counted apart; what else is answered counts as one."""


@dataclass
class Tally:
    """Counts of one version of a task, from its rows; errors that are the client's own are left out.

    Of the rows some are `errors` (without an answer), `slow` (later than the rules allow) or `abstained` (withheld); of
    the answers that feedback `told` of some are `right`; of those `compared` with a shadow's some are `differing`.
    """

    alpha: float = 0.05
    """How often an interval may ever miss."""
    rows: int = 0
    errors: int = 0
    slow: int = 0
    abstained: int = 0
    told: int = 0
    right: int = 0
    compared: int = 0
    differing: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    """Label -> how often it was answered."""
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    """Of the last answers."""
    confidence: MeanSequence = field(default_factory=lambda: MeanSequence(0.05))
    """Of all answers that have one."""

    def answer(self, answer: Any, seconds: float, slow_s: float | None = None) -> None:
        """Count an answer, as `Host.predict` gives it."""
        self.rows += 1
        self.seconds.append(seconds)
        self.slow += slow_s is not None and seconds > slow_s
        if not isinstance(answer, dict):
            return
        if isinstance(answer.get("confidence"), float):
            self.confidence.add(min(max(answer["confidence"], 0.0), 1.0))
        self.abstained += answer.get("abstained") is True
        label = answer.get("label")
        if isinstance(label, str):
            self.labels[label if label in self.labels or len(self.labels) < MOST_LABELS else ""] += 1

    def error(self) -> None:
        """Count a row that it could not answer."""
        self.rows, self.errors = self.rows + 1, self.errors + 1

    def feedback(self, right: bool) -> None:
        """Count what a client said of an answer."""
        self.told, self.right = self.told + 1, self.right + right

    def compare(self, same: bool) -> None:
        """Count an answer held beside another version's."""
        self.compared, self.differing = self.compared + 1, self.differing + (not same)

    def facts(self) -> dict[str, Any]:
        """As JSON: counts, and every share and mean with an interval that holds at every moment at once."""
        shares = {"errors": (self.errors, self.rows), "right": (self.right, self.told)}
        shares |= {"differing": (self.differing, self.compared), "abstained": (self.abstained, self.rows)}
        found: dict[str, Any] = {"rows": self.rows}
        for name, (part, whole) in shares.items():
            interval = vars(share_interval(part, whole, self.alpha)) if whole else None
            found[name] = {"count": part, "of": whole, "share": interval}
        found["confidence"] = vars(self.confidence.interval()) if self.confidence.rows else None
        times = sorted(self.seconds)
        quantile = (
            {name: times[min(len(times) - 1, int(len(times) * at))] * 1000 for name, at in _QUANTILES} if times else {}
        )
        return found | {"latency_ms": quantile, "labels": dict(self.labels.most_common())}


_QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


@dataclass(frozen=True)
class Verdict:
    """One arm against another, by the answers that feedback called right.

    Attributes:
        arm: the challenger.
        against: what it is compared with.
        says: "better", "worse" or "undecided": so far.
        difference: share of right answers, arm minus the other, with an interval that holds at every moment at once.
        evidence: against the two being alike, as odds; at 1 / alpha they are not.
        rows: with feedback, of either.
    """

    arm: str
    against: str
    says: Literal["better", "worse", "undecided"]
    difference: AnytimeInterval
    evidence: float
    rows: tuple[int, int]


def verdicts_of(
    told: Mapping[str, tuple[int, int]], against: str = "stable", alpha: float = 0.05
) -> tuple[Verdict, ...]:
    """Every arm against one of them.

    All verdicts together, at all moments together, name a difference where there is none with a probability of at
    most alpha: looking often costs nothing, and so does stopping when one likes what one sees.

    Args:
        told: arm -> answers that were right, of those with feedback.
        against: the arm that the others are compared with.
        alpha: how often that may happen.
    """
    others = [arm for arm in told if arm != against]
    if against not in told or not others:
        return ()
    return tuple(_verdict(told[against], told[arm], arm, against, alpha / len(others)) for arm in others)


def _verdict(a: tuple[int, int], b: tuple[int, int], arm: str, against: str, alpha: float) -> Verdict:
    rows, difference = (b[1], a[1]), difference_interval(a, b, alpha)
    if not a[1] or not b[1]:
        return Verdict(arm, against, "undecided", difference, 1.0, rows)
    nats = float(log_evidence_of_difference(a, b))
    says: Literal["better", "worse", "undecided"] = "undecided"
    if nats >= -math.log(alpha):
        says = "better" if difference.value > 0 else "worse"
    return Verdict(arm, against, says, difference, math.exp(min(nats, 700.0)), rows)
