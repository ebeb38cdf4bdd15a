from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest
import sklearn.calibration
import sklearn.metrics

from adapterkit.errors import DataError
from adapterkit.metrics.calibration import (
    expected_calibration_error,
    judged,
    judged_classes,
    measure_calibration,
    reliability,
)


def test_two_bins_by_hand() -> None:
    # Below: 0.2 and 0.4, none right: gap 0.3. Above: 0.6 and 1.0, both right: gap 0.2. Mean 0.25.
    found = measure_calibration(judged([1.0, 0.2, 0.6, 0.4], [True, False, True, False]), bins=2)
    assert [(one.low, one.high, one.items, one.accuracy) for one in found.bins] == [(0.2, 0.4, 2, 0), (0.6, 1, 2, 1)]
    assert [one.confidence for one in found.bins] == pytest.approx([0.3, 0.8])
    assert found.ece == pytest.approx(0.25)
    assert found.brier == pytest.approx((0.04 + 0.16 + 0.16 + 0) / 4)
    assert (found.accuracy, found.nll_nats) == (0.5, None)
    assert asdict(found)["bins"][1] == {
        "low": 0.6,
        "high": 1.0,
        "items": 2,
        "confidence": 0.8,
        "accuracy": 1.0,
    }


@pytest.mark.parametrize("seed", range(3))
def test_bins_and_scores_are_scikit_learn_s(seed: int) -> None:
    chance = np.random.default_rng(seed)
    confidence_N, right_N = chance.random(450), (chance.random(450) < 0.7).astype(float)
    bins = reliability(confidence_N, right_N, 15)
    accuracy, confidence = sklearn.calibration.calibration_curve(right_N, confidence_N, n_bins=15, strategy="quantile")
    assert {one.items for one in bins} == {30}
    assert [one.accuracy for one in bins] == pytest.approx(accuracy)
    assert [one.confidence for one in bins] == pytest.approx(confidence)
    assert expected_calibration_error(bins) == pytest.approx(np.abs(accuracy - confidence).mean())
    found = measure_calibration(judged(confidence_N.tolist(), right_N.tolist()))
    assert found.brier == pytest.approx(sklearn.metrics.brier_score_loss(right_N, confidence_N))


@pytest.mark.parametrize("seed", range(3))
def test_scores_over_classes_are_scikit_learn_s(seed: int) -> None:
    chance = np.random.default_rng(seed)
    probability_NC, gold = chance.dirichlet(np.ones(4), 60), chance.integers(0, 4, 60)
    found = measure_calibration(judged_classes(probability_NC, gold.tolist()))
    whole = sklearn.metrics.brier_score_loss(gold, probability_NC, scale_by_half=False, labels=range(4))
    assert found.brier == pytest.approx(whole)
    assert found.nll_nats == pytest.approx(sklearn.metrics.log_loss(gold, probability_NC, labels=range(4)))
    assert found.accuracy == pytest.approx(sklearn.metrics.accuracy_score(gold, probability_NC.argmax(axis=1)))


def test_the_order_of_answers_plays_no_part_and_one_confidence_is_one_bin() -> None:
    confidence, right = np.repeat([0.5, 0.9], [6, 4]), np.array([1, 0, 1, 0, 1, 0, 1, 1, 1, 0.0])
    shuffled = np.random.default_rng(0).permutation(10)
    bins = reliability(confidence, right, 5)
    assert bins == reliability(confidence[shuffled], right[shuffled], 5)
    assert [(one.items, one.confidence, one.accuracy) for one in bins] == [(6, 0.5, 0.5), (4, 0.9, 0.75)]
    constant = measure_calibration(judged([0.25] * 8, [True, False] * 4))
    assert (len(constant.bins), constant.ece) == (1, 0.25)


def test_a_right_answer_without_a_probability_costs_what_a_double_can_hold() -> None:
    found = measure_calibration(judged_classes([[1.0, 0.0]], [1]))
    assert found.nll_nats == pytest.approx(52 * math.log(2))
    assert (found.ece, found.brier) == (1.0, 2.0)


@pytest.mark.parametrize("wrong", [math.nan, 1.5, -0.1, math.inf])
def test_what_is_no_probability_is_refused(wrong: float) -> None:
    with pytest.raises(DataError, match=r"confidence 1: found .* expected a number from 0 to 1"):
        judged([0.5, wrong], [True, True])
    with pytest.raises(DataError, match="expected one for each"):
        judged([0.5], [True, False])


def test_one_answer_has_a_calibration_and_none_has_none() -> None:
    one = measure_calibration(judged([0.75], [True]))
    assert (one.items, one.ece, len(one.bins)) == (1, 0.25, 1)
    with pytest.raises(DataError, match="no answer"):
        measure_calibration(judged([], []))
    assert math.isnan(expected_calibration_error(()))
