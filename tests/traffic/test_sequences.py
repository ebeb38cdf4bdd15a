"""Sequences against other implementations of the same formulas, and their promise against ten thousand simulations.

The figures of `savvi` 0.3.1 are `Multinomial(0.05, [0.5, 0.5], k=1)`, whose mixture is the same; the differences are
the convex problem solved by cvxpy under savvi's own terms; those of `confseq` are `predmix_lower_cs` with the means and
bets of the paper's theorem 2.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from adapterkit.traffic.sequences import (
    MeanSequence,
    difference_interval,
    log_evidence,
    log_evidence_of_difference,
    share_interval,
)
from adapterkit.traffic.tallies import verdicts_of

ALPHA = 0.05
MANY = 10_000
STEPS = 250


@pytest.mark.parametrize(
    ("right", "rows", "nats", "low", "high"),
    [
        (40, 100, -0.5173944830, 0.24857025, 0.56568525),
        (0, 20, 11.7864631821, 0.0, 0.22400611),
        (700, 1000, 78.6029277670, 0.64543766, 0.75101661),
    ],
)
def test_evidence_and_intervals_of_shares_are_those_of_savvi(
    right: int, rows: int, nats: float, low: float, high: float
) -> None:
    assert float(log_evidence(right, rows, 0.5)) == pytest.approx(nats, abs=1e-8)
    found = share_interval(right, rows, ALPHA)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)


@pytest.mark.parametrize(
    ("a", "b", "alpha", "low", "high"),
    [
        ((40, 100), (60, 100), 0.05, -0.08320314, 0.46223143),
        ((900, 1000), (45, 60), 0.01, -0.44470533, 0.04508309),
    ],
)
def test_intervals_of_differences_are_those_of_a_convex_solver(
    a: tuple[int, int], b: tuple[int, int], alpha: float, low: float, high: float
) -> None:
    found = difference_interval(a, b, alpha)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)


def test_intervals_of_means_are_those_of_confseq() -> None:
    sequence, found = MeanSequence(ALPHA), {}
    for step in range(1, 201):
        sequence.add(((7 * (step - 1)) % 11) / 10)
        found[step] = sequence.ends()
    assert found[10] == (0.0, 1.0)
    assert found[50] == pytest.approx((0.30537449091, 0.68662550909), abs=1e-9)
    assert found[200] == pytest.approx((0.42045385758, 0.57678479557), abs=1e-9)


@pytest.mark.parametrize("share", [0.03, 0.5, 0.9])
def test_two_equal_arms_are_told_apart_no_more_often_than_alpha_whenever_one_looks(share: float) -> None:
    """The usual test, looked at after every row, is deceived several times as often: why this one is here."""
    drawn = np.random.default_rng(7).random((2, STEPS, MANY)) < share
    a, b = drawn.cumsum(axis=1)
    rows = np.arange(1, STEPS + 1)[:, None]
    ever = (log_evidence_of_difference((a, rows), (b, rows)) >= -math.log(ALPHA)).any(axis=0)
    assert ever.mean() <= ALPHA
    if share == 0.5:
        spread = np.sqrt(np.maximum((a + b) / (2 * rows) * (1 - (a + b) / (2 * rows)) * 2 / rows, 1e-12))
        usual = (np.abs(a - b) / rows / spread)[20:] > norm.ppf(1 - ALPHA / 2)
        assert usual.any(axis=0).mean() > 4 * ALPHA


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_a_true_share_is_refuted_no_more_often_than_alpha_whenever_one_looks(share: float) -> None:
    right = (np.random.default_rng(8).random((STEPS, MANY)) < share).cumsum(axis=0)
    rows = np.arange(1, STEPS + 1)[:, None]
    assert (log_evidence(right, rows, share) >= -math.log(ALPHA)).any(axis=0).mean() <= ALPHA


@pytest.mark.parametrize(("one", "other"), [(0.5, 0.5), (8.0, 2.0)])
def test_a_true_mean_is_left_out_no_more_often_than_alpha_whenever_one_looks(one: float, other: float) -> None:
    generator, sequence = np.random.default_rng(9), MeanSequence(ALPHA)
    missed = np.zeros(MANY, dtype=bool)
    for _ in range(STEPS):
        sequence.add(generator.beta(one, other, MANY))
        low, high = sequence.ends()
        missed |= (low > one / (one + other)) | (high < one / (one + other))
    assert missed.mean() <= ALPHA


def test_a_real_difference_is_found() -> None:
    drawn = np.random.default_rng(3).random((2, 1_000))
    a, b = int((drawn[0] < 0.7).sum()), int((drawn[1] < 0.85).sum())
    (found,) = verdicts_of({"stable": (a, 1000), "candidate": (b, 1000)})
    assert (found.arm, found.says) == ("candidate", "better")
    assert found.difference.low > 0
    assert found.evidence > 20
    (turned,) = verdicts_of({"stable": (b, 1000), "candidate": (a, 1000)})
    assert turned.says == "worse"


def test_nothing_is_said_before_there_is_feedback_on_both() -> None:
    (found,) = verdicts_of({"stable": (0, 0), "candidate": (5, 5)})
    assert (found.says, found.evidence) == ("undecided", 1.0)
    assert (found.difference.low, found.difference.high) == (-1.0, 1.0)
    assert verdicts_of({"stable": (3, 5)}) == ()
    assert verdicts_of({"other": (3, 5), "candidate": (3, 5)}) == ()


def test_a_verdict_and_its_interval_say_the_same() -> None:
    for right in range(0, 101, 4):
        (found,) = verdicts_of({"stable": (50, 100), "candidate": (right, 100)})
        outside = found.difference.low > 0 or found.difference.high < 0
        assert outside == (found.says != "undecided")
