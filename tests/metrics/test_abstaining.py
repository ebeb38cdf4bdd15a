"""The promise of a threshold, by simulation, and its test by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from adapterkit.metrics.abstaining import find_threshold

WORLDS = {
    "calibrated": lambda confidence: confidence,
    "overconfident": lambda confidence: confidence**3,
    "useless": lambda confidence: np.full_like(confidence, 0.9),
}
"""Confidence -> the probability of being right."""


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(("risk", "certainty"), [(0.1, 0.9), (0.05, 0.8)])
def test_the_promise_is_kept_as_often_as_promised(world: str, risk: float, certainty: float) -> None:
    truth, chance = WORLDS[world], np.random.default_rng(0)
    many = chance.beta(4, 1, 20_000)  # of new rows: their true share of wrong answers above any threshold
    broken = found = 0
    for _ in range(400):
        confidence = chance.beta(4, 1, 300)
        threshold = find_threshold(confidence, chance.random(300) < truth(confidence), risk, certainty)
        if threshold is not None:
            kept = many[many > threshold.abstain_up_to]
            found += 1
            broken += (1 - truth(kept)).mean() > risk
    # 400 draws of a share of 1 - certainty: three standard errors above it.
    assert broken / 400 <= 1 - certainty + 3 * np.sqrt(certainty * (1 - certainty) / 400)
    if world == "calibrated":
        assert found > 200


def test_it_answers_nearly_as_much_as_the_truth_allows() -> None:
    chance = np.random.default_rng(1)
    confidence = chance.beta(4, 1, 20_000)
    threshold = find_threshold(confidence, chance.random(20_000) < confidence, 0.1, 0.9)
    assert threshold is not None
    # Calibrated, Beta(4, 1): the mean of what exceeds t is 0.8 (1 - t⁵) / (1 - t⁴), which is 0.9 at t = 0.79.
    assert threshold.abstain_up_to == pytest.approx(0.79, abs=0.03)
    assert threshold.answered == pytest.approx(1 - 0.79**4, abs=0.05)


def test_the_smallest_set_of_right_answers_that_promises_anything() -> None:
    # 0.9²¹ = 0.109 is not refused at 0.1, 0.9²² = 0.098 is.
    assert find_threshold([0.9] * 21, [True] * 21, 0.1, 0.9) is None
    found = find_threshold([0.9] * 22, [True] * 22, 0.1, 0.9)
    assert found is not None
    assert (found.abstain_up_to, found.answered, found.wrong) == (0.0, 1.0, 0.0)


def test_the_last_threshold_is_the_last_that_the_binomial_test_refuses() -> None:
    confidence = np.concatenate([np.full(100, 0.95), np.full(100, 0.6)])
    right = np.concatenate([np.ones(97), np.zeros(3), np.ones(85), np.zeros(15)])
    assert stats.binomtest(3, 100, 0.1, "less").pvalue < 0.1 < stats.binomtest(18, 200, 0.1, "less").pvalue
    found = find_threshold(confidence, right, 0.1, 0.9)
    assert found is not None
    assert (found.answered, found.wrong) == (0.5, 0.03)
    assert 0.6 <= found.abstain_up_to < 0.62


def test_nothing_is_promised_of_nothing() -> None:
    assert find_threshold([], [], 0.1, 0.9) is None
    assert find_threshold([0.99] * 500, [False] * 500, 0.1, 0.9) is None
