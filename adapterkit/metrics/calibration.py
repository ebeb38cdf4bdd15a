"""How far an answer can be trusted: bins of confidence against accuracy, calibration error, Brier score, likelihood.

What is judged is a confidence in [0, 1] beside whether the answer was right. In a record, a page draws
it without this module:

    {"items": 3080, "ece": 0.031, "brier": 0.122, "nll_nats": 0.293, "confidence": 0.951, "accuracy": 0.920,
     "bins": [{"low": 0.21, "high": 0.68, "items": 206, "confidence": 0.51, "accuracy": 0.44}, …]}

A reliability diagram has a point for every bin: its mean confidence across, its accuracy up, its items as weight.
"""

# Axes: N items, C classes.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adapterkit.errors import DataError
from adapterkit.metrics.resampling import Numbers

BINS = 15


@dataclass(frozen=True)
class Bin:
    """Items of nearly one confidence, from `low` to `high`: how many, its mean, and the share that was right."""

    low: float
    high: float
    items: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """Confidence and truth of many answers (`items`), against each other: expected calibration error over `bins`, mean
    squared error of the probabilities (see `Judged.squared`), mean -log p of what was right (None where the right
    answer has no probability), mean confidence, share that was right; and bins, lowest confidence first."""

    items: int
    ece: float
    brier: float
    nll_nats: float | None
    confidence: float
    accuracy: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Judged:
    """What is known of N answers whose truth is known."""

    confidence: Numbers
    """The probability that the model gave to its own answer, in [0, 1]."""
    right: Numbers
    """Whether it was right, 0 or 1."""
    squared: Numbers
    """Squared error of the probabilities: over all classes, Σ (p - one-hot)² (Brier 1950), where an answer is one of
    some classes; else (confidence - right)²."""
    nats: Numbers | None = None
    """-log of the probability that the right answer got; None where it has none."""


def judged(confidence: Any, right: Any, nats: Any = None) -> Judged:
    """Answers by their confidence alone; each argument is (N,), as `Judged` has it.

    Raises DataError: a confidence that is no probability, or lists of different lengths.
    """
    confidence_N, right_N = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if confidence_N.ndim != 1 or confidence_N.shape != right_N.shape:
        raise DataError(f"found {confidence_N.shape} confidences of {right_N.shape} answers, expected one for each")
    outside = np.flatnonzero(~((confidence_N >= 0) & (confidence_N <= 1)))
    if len(outside):
        first = int(outside[0])
        raise DataError(f"confidence {first}: found {confidence_N[first]}, expected a number from 0 to 1")
    nats_N = None if nats is None else np.asarray(nats, dtype=np.float64)
    return Judged(confidence_N, right_N, (confidence_N - right_N) ** 2, nats_N)


def judged_classes(probability_NC: Any, gold: Sequence[int]) -> Judged:
    """Answers that are the most probable of C classes. Probabilities are raised to 2⁻⁵² before their log is taken."""
    probability_NC, gold_N = np.asarray(probability_NC, dtype=np.float64), np.asarray(gold, dtype=np.int64)
    rows_N = np.arange(len(gold_N))
    plain = judged(np.clip(probability_NC.max(axis=1), 0, 1), probability_NC.argmax(axis=1) == gold_N)
    squared_NC = probability_NC**2
    gold_share_N = probability_NC[rows_N, gold_N]
    squared_N = squared_NC.sum(axis=1) - gold_share_N**2 + (1 - gold_share_N) ** 2
    nats_N = -np.log(np.maximum(gold_share_N, np.finfo(np.float64).eps))
    return Judged(plain.confidence, plain.right, squared_N, nats_N)


def reliability(confidence_N: Numbers, right_N: Numbers, bins: int = BINS) -> tuple[Bin, ...]:
    """Bins of equal mass: as many items in each as can be, and items of one confidence in one bin.

    Equal masses, since a good model's confidences crowd near 1, where bins of equal width would see one bin alone
    (Nguyen and O'Connor 2015; Roelofs et al. 2022).
    """
    order_N = np.argsort(confidence_N, kind="stable")
    sorted_N, truth_N = confidence_N[order_N], right_N[order_N]
    count = len(sorted_N)
    first_N = np.searchsorted(sorted_N, sorted_N, side="left")
    places = first_N * min(bins, count) // max(count, 1)
    found = []
    for place in np.unique(places):
        inside = places == place
        held_N = sorted_N[inside]
        found.append(
            Bin(float(held_N[0]), float(held_N[-1]), len(held_N), float(held_N.mean()), float(truth_N[inside].mean()))
        )
    return tuple(found)


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Mean gap between confidence and accuracy, weighted by the items of each bin (Guo et al. 2017, eq. 3).

    NaN without items.
    """
    items = sum(one.items for one in bins)
    if not items:
        return float("nan")
    return sum(one.items * abs(one.confidence - one.accuracy) for one in bins) / items


def measure_calibration(found: Judged, bins: int = BINS) -> Calibration:
    """How well confidence tells the truth. Raises DataError where there is no answer to judge."""
    if not len(found.confidence):
        raise DataError("there is no answer whose confidence could be judged")
    diagram = reliability(found.confidence, found.right, bins)
    return Calibration(
        len(found.confidence),
        expected_calibration_error(diagram),
        float(found.squared.mean()),
        None if found.nats is None else float(found.nats.mean()),
        float(found.confidence.mean()),
        float(found.right.mean()),
        diagram,
    )
