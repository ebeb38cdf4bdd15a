from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn

from adapterkit.metrics import Compared, Metric, bootstrap, compare_classes, compare_numbers, compare_sets, ratio_of
from adapterkit.metrics import classification as scores


def measured(found: Compared) -> dict[str, Metric]:
    return bootstrap(found.items, found.formulas, scores.DIRECTIONS, resamples=10)


def test_the_interval_of_a_share_is_the_binomial_one() -> None:
    # 500 of 1,000 right: standard error √(0.25 / 1000) = 0.0158, so 95 % lie within 0.5 ± 0.031.
    formulas = {"share": ratio_of(np.repeat([0.0, 1.0], 500))}
    metric = bootstrap(1000, formulas, {"share": True}, resamples=2000)["share"]
    assert metric.value == 0.5
    assert metric.low == pytest.approx(0.469, abs=0.004)
    assert metric.high == pytest.approx(0.531, abs=0.004)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    formulas = {"m": ratio_of(np.arange(50) % 3 == 0)}
    first, again, other = (bootstrap(50, formulas, {"m": True}, seed=seed)["m"] for seed in (1, 1, 2))
    assert first == again != other


def test_no_resamples_give_no_interval_and_no_rows_give_nan() -> None:
    metric = bootstrap(1, {"m": ratio_of([1.0], [2.0])}, {"m": False}, resamples=0)["m"]
    assert (metric.value, metric.low, metric.high, metric.higher_is_better) == (0.5, 0.5, 0.5, False)
    assert math.isnan(bootstrap(0, {"m": ratio_of([])}, {"m": True})["m"].value)
    assert metric.to_dict() == {"value": 0.5, "low": 0.5, "high": 0.5, "higher_is_better": False}


@pytest.mark.parametrize("seed", range(5))
def test_classification_scores_are_scikit_learn_s(seed: int) -> None:
    chance = np.random.default_rng(seed)
    gold, predicted = chance.integers(0, 4, 40), chance.integers(0, 5, 40)
    found = measured(compare_classes("abcdefg", gold.tolist(), np.eye(7)[predicted]))
    assert found["accuracy"].value == pytest.approx(sklearn.accuracy_score(gold, predicted))
    assert found["macro_f1"].value == pytest.approx(sklearn.f1_score(gold, predicted, average="macro"))
    assert found["mcc"].value == pytest.approx(sklearn.matthews_corrcoef(gold, predicted))
    gold_hot, predicted_hot = chance.random((30, 4)) > 0.6, chance.random((30, 4)) > 0.5
    several = measured(compare_sets("abcd", gold_hot, predicted_hot, 0.5))
    assert several["micro_f1"].value == pytest.approx(sklearn.f1_score(gold_hot, predicted_hot, average="micro"))
    assert several["macro_f1"].value == pytest.approx(sklearn.f1_score(gold_hot, predicted_hot, average="macro"))
    assert several["exact_match"].value == pytest.approx(sklearn.accuracy_score(gold_hot, predicted_hot))


@pytest.mark.parametrize("seed", range(3))
def test_correlations_are_scipy_s_ties_included(seed: int) -> None:
    chance = np.random.default_rng(seed)
    gold = chance.integers(0, 5, (60, 2)).astype(float)
    predicted = gold + chance.normal(size=(60, 2)).round()
    found = measured(compare_numbers(gold, predicted))
    pearson = np.mean([stats.pearsonr(gold[:, t], predicted[:, t]).statistic for t in range(2)])
    spearman = np.mean([stats.spearmanr(gold[:, t], predicted[:, t]).statistic for t in range(2)])
    assert found["pearson"].value == pytest.approx(pearson)
    assert found["spearman"].value == pytest.approx(spearman)
    assert found["mse"].value == pytest.approx(((gold - predicted) ** 2).mean())
    # A resample's rank correlation is scipy's on the repeated rows.
    times = np.bincount(chance.integers(0, 60, 60), minlength=60)
    repeated = np.repeat(np.arange(60), times)
    expected = stats.spearmanr(gold[repeated, 0], predicted[repeated, 0]).statistic
    assert scores._spearman(times[None].astype(float), gold[:, 0], predicted[:, 0])[0] == pytest.approx(expected)


def test_constant_predictions_have_no_correlation() -> None:
    found = measured(compare_numbers([[1.0], [2.0], [3.0]], [[2.0], [2.0], [2.0]]))
    assert found["pearson"].value == found["spearman"].value == 0.0
    assert found["mse"].value == pytest.approx(2 / 3)
    assert measured(compare_classes("ab", [0, 1], [[1.0, 0.0], [1.0, 0.0]]))["mcc"].value == 0.0
