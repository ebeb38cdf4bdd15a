"""Intervals that hold at every moment at once, so that whoever looks all the time is deceived no more often than asked.

Shares (rows that are right, late, different): the evidence against a share p is the likelihood of what was seen under
a mixture of all shares, over that under p (Robbins 1970; Howard et al. 2021, section 3). It is a martingale that begins
at 1 where p is true, so it ever reaches 1 / alpha with a probability of at most alpha (Ville 1939).

Means of numbers between 0 and 1: the predictable empirical-Bernstein sequence (Waudby-Smith & Ramdas 2024, theorem 2).

Everything takes numbers or arrays of them: `right` and `rows` of one arm, or of thousands of simulated ones.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scipy.special import betaln, xlog1py, xlogy

PRIOR = 0.5
"""Both parameters of the mixture's beta distribution (Krichevsky & Trofimov 1981): narrow near 0 and 1 as well."""

_HALVINGS = 50


@dataclass(frozen=True)
class AnytimeInterval:
    """Where a figure lies, with the certainty that was asked for, at every moment at once."""

    value: float
    low: float
    high: float


def log_evidence(right: Any, rows: Any, share: Any) -> Any:
    """Evidence in nats against `right` of `rows` coming from this share; at ln(1 / alpha) the share is refuted."""
    wrong = rows - right
    mixed = betaln(right + PRIOR, wrong + PRIOR) - betaln(PRIOR, PRIOR)
    return mixed - xlogy(right, share) - xlog1py(wrong, -share)


def share_interval(right: int, rows: int, alpha: float) -> AnytimeInterval:
    """The shares that are not refuted."""
    if not rows:
        return AnytimeInterval(0.5, 0.0, 1.0)
    return _not_refuted(right / rows, 0.0, 1.0, alpha, lambda share: log_evidence(right, rows, share))


def log_evidence_of_difference(a: tuple[Any, Any], b: tuple[Any, Any]) -> Any:
    """Evidence in nats against two arms having the same share, whichever it is; each arm is (right, rows).

    The product of the two martingales is one for every common share; it is least at the share of both together.
    """
    together = (a[0] + b[0]) / (a[1] + b[1])
    return log_evidence(*a, together) + log_evidence(*b, together)


def difference_interval(a: tuple[int, int], b: tuple[int, int], alpha: float) -> AnytimeInterval:
    """How much larger the share of `b` is than that of `a`, each (right, rows): the differences not refuted."""
    if not a[1] or not b[1]:
        return AnytimeInterval(0.0, -1.0, 1.0)
    value = b[0] / b[1] - a[0] / a[1]
    return _not_refuted(value, -1.0, 1.0, alpha, lambda difference: _least_evidence(a, b, difference))


def _not_refuted(
    value: float, low: float, high: float, alpha: float, evidence: Callable[[float], Any]
) -> AnytimeInterval:
    """What is not refuted around a value, whose evidence in nats only grows on either side of it."""
    limit, ends = -math.log(alpha), []
    for outer in (low, high):
        inside = value
        for _ in range(_HALVINGS if float(evidence(outer)) >= limit else 0):
            middle = (inside + outer) / 2
            inside, outer = (middle, outer) if evidence(middle) < limit else (inside, middle)
        ends.append(outer)
    return AnytimeInterval(value, ends[0], ends[1])


def _least_evidence(a: tuple[int, int], b: tuple[int, int], difference: float) -> float:
    """Evidence against a difference at the share of `a` that suits it best. It is convex in that share."""
    low, high = max(0.0, -difference), min(1.0, 1.0 - difference)
    for _ in range(_HALVINGS):
        share = (low + high) / 2
        slope = _slope(*a, share) + _slope(*b, share + difference)
        low, high = (low, share) if slope > 0 else (share, high)
    share = (low + high) / 2
    return float(log_evidence(*a, share) + log_evidence(*b, share + difference))


def _slope(right: int, rows: int, share: float) -> float:
    tiny = 1e-300
    return (rows - right) / max(1 - share, tiny) - right / max(share, tiny)


class MeanSequence:
    """The mean of numbers between 0 and 1 that come one by one.
    `alpha`: how often the interval may ever miss the mean."""

    def __init__(self, alpha: float) -> None:
        self.alpha, self.rows = alpha, 0
        self._sum: Any = 0.0
        self._squares: Any = 0.0
        self._bets: Any = 0.0
        self._won: Any = 0.0
        self._paid: Any = 0.0

    def add(self, number: Any) -> None:
        """Take one number, or one of each of many sequences."""
        import numpy as np

        mean = (0.5 + self._sum) / (self.rows + 1)
        variance = (0.25 + self._squares) / (self.rows + 1)
        self.rows += 1
        bet = np.minimum(0.5, np.sqrt(2 * math.log(2 / self.alpha) / (variance * self.rows * math.log(1 + self.rows))))
        self._bets, self._won = self._bets + bet, self._won + bet * number
        self._paid = self._paid + (number - mean) ** 2 * (-np.log1p(-bet) - bet)
        self._sum = self._sum + number
        self._squares = self._squares + (number - (0.5 + self._sum) / (self.rows + 1)) ** 2

    @property
    def mean(self) -> Any:
        """Of what was seen; 0.5 before that."""
        return self._sum / self.rows if self.rows else 0.5

    def ends(self) -> tuple[Any, Any]:
        """Low and high, within 0 and 1."""
        import numpy as np

        if not self.rows:
            return 0.0, 1.0
        middle, reach = self._won / self._bets, (math.log(2 / self.alpha) + self._paid) / self._bets
        return np.maximum(0.0, middle - reach), np.minimum(1.0, middle + reach)

    def interval(self) -> AnytimeInterval:
        """Of one sequence."""
        low, high = self.ends()
        return AnytimeInterval(float(self.mean), float(low), float(high))
