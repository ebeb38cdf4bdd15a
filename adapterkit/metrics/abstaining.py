"""When to withhold an answer, so that those that are given are wrong at most so often, with a guarantee."""

# Axes: N answers, L thresholds.

from dataclasses import dataclass
from typing import Any

import numpy as np

THRESHOLDS = 1 / (1 + np.exp(-np.linspace(12.0, -6.0, 361)))
"""From near 1 down, evenly in log-odds; with 0 behind them. They are fixed, which the guarantee needs."""


@dataclass(frozen=True)
class Threshold:
    """Which answers are given: those whose confidence is above `abstain_up_to`, so that a share of `risk` of them is
    wrong at most, with this `certainty`; and on the rows that chose it, the shares that are `answered` and of these
    `wrong`."""

    risk: float
    certainty: float
    abstain_up_to: float
    answered: float
    wrong: float


def find_threshold(confidence: Any, right: Any, risk: float, certainty: float) -> Threshold | None:
    """The lowest threshold at which at most `risk` of the given answers are wrong, on new rows like these.

    Learn then Test (Angelopoulos et al. 2021, arXiv 2110.01052) with fixed-sequence testing: from the highest
    threshold down, "more than `risk` of the given answers are wrong" is tested by its exact binomial p-value, and the
    sequence ends at the first that cannot be refused. Over draws of the rows, the threshold found breaks its promise
    with a probability of at most 1 - certainty. The sequence starts where so many answers are given that half the risk
    would be refused, a tenth of all at least; or, where they are too few for that, where none wrong would be. Their
    number alone decides, never whether they are right.

    `confidence`: (N,) from 0 to 1. `right`: (N,) whether each answer was right. `risk`: the share of wrong answers
    among those that are given that is allowed, in (0, 1). `certainty`: probability, over the rows, that this is kept,
    in (0, 1). Returns None where no threshold can be promised.
    """
    from scipy.stats import binom

    confidence_N, right_N = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if not len(confidence_N):
        return None
    order_N = np.argsort(-confidence_N, kind="stable")
    falling_N, wrong_N = confidence_N[order_N], np.cumsum(1 - right_N[order_N])
    thresholds_L = np.append(THRESHOLDS, 0.0)
    given_L = np.searchsorted(-falling_N, -thresholds_L, side="left")
    wrong_L = np.where(given_L > 0, wrong_N[np.maximum(given_L - 1, 0)], 0.0)
    least_L = (1 - risk) ** given_L <= 1 - certainty
    enough_L = binom.cdf(np.floor(given_L * risk / 2), np.maximum(given_L, 1), risk) <= 1 - certainty
    enough_L &= given_L >= len(confidence_N) / 10
    p_value_L = binom.cdf(wrong_L, np.maximum(given_L, 1), risk)
    found = None
    for place in np.flatnonzero(enough_L if enough_L.any() else least_L):
        if p_value_L[place] > 1 - certainty:
            break
        found = place
    if found is None:
        return None
    given = int(given_L[found])
    shares = given / len(confidence_N), float(wrong_L[found] / given)
    return Threshold(risk, certainty, float(thresholds_L[found]), *shares)
