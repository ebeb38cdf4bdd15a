"""What a running split says: whether an arm answers better than the one beside it, whenever somebody looks."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from adapterkit.traffic.sequences import AnytimeInterval, difference_interval, log_evidence_of_difference


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
