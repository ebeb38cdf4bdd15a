"""Paired differences, McNemar's test and sample sizes against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from adapterkit.metrics import Metric, bootstrap, ratio_of
from adapterkit.metrics.paired import Difference, changed_sides, difference, rows_to_show, thirds, verdict_of


def of_shares(right_N: np.ndarray, resamples: int = 4000) -> Metric:
    formulas = {"accuracy": ratio_of(right_N)}
    return bootstrap(len(right_N), formulas, {"accuracy": True}, resamples=resamples)["accuracy"]


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_is_that_of_scipy_s_paired_bootstrap(seed: int) -> None:
    chance = np.random.default_rng(seed)
    a = chance.random(300) < 0.7
    b = np.where(chance.random(300) < 0.15, chance.random(300) < 0.9, a)
    found = difference(of_shares(a), of_shares(b))
    theirs = stats.bootstrap(
        (a.astype(float), b.astype(float)),
        lambda x, y, axis: y.mean(axis=axis) - x.mean(axis=axis),
        paired=True, vectorized=True, method="percentile", n_resamples=4000, rng=np.random.default_rng(seed),
    )  # fmt: skip
    # Two bootstraps of 4,000 draws over 300 rows: their ends differ by a row or so.
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.005)
    assert found.standard_error == pytest.approx(theirs.standard_error, rel=0.1)
    alone = of_shares(b).high - of_shares(b).low
    assert found.high - found.low < alone  # what is paired is narrower


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (10, 2), (3, 3), (40, 61), (1500, 1350)])
def test_mcnemar_is_scipy_s_exact_binomial(gained: int, lost: int) -> None:
    a = np.concatenate([np.zeros(gained), np.ones(lost), np.ones(5), np.zeros(5)])
    b = np.concatenate([np.ones(gained), np.zeros(lost), np.ones(5), np.zeros(5)])
    found = changed_sides(a, b, range(len(a)))
    assert (found.gained, found.lost) == (gained, lost)
    assert found.gained_rows == tuple(range(gained))[:1000]
    expected = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert found.p_value == pytest.approx(expected)


def test_the_verdict_follows_the_interval() -> None:
    assert verdict_of(0.01, 0.03) == verdict_of(-0.03, -0.01, higher_is_better=False) == "better"
    assert verdict_of(-0.03, -0.01) == verdict_of(0.01, 0.03, higher_is_better=False) == "worse"
    assert verdict_of(0.0, 0.1) == verdict_of(-0.1, 0.1) == verdict_of(0, 0) == "no difference shown"
    assert verdict_of(float("nan"), float("nan")) == "no difference shown"


def test_rows_for_a_point_show_it_in_four_cases_of_five() -> None:
    # 10 % of rows change sides: variance of a row's difference is 0.1 - 0.01².
    error = np.sqrt((0.1 - 0.01**2) / 500)
    needed = rows_to_show(0.01, Difference(0.5, 0.5, 0, 0, 0, float(error), True, "worse"), 500)
    assert needed == 7842  # (1.959964 + 0.841621)² × 0.0999 / 0.01² = 7,841.2
    chance = np.random.default_rng(0)
    gained, lost = chance.multinomial(needed, [0.055, 0.045, 0.9], 4000).T[:2]
    shown = (gained - lost) / np.sqrt(gained + lost) > 1.96
    assert shown.mean() == pytest.approx(0.8, abs=0.02)
    assert rows_to_show(0.01, Difference(0.5, 0.5, 0, 0, 0, 0.0, True, "no difference shown"), 500) is None


def test_without_resamples_or_rows_there_is_no_interval() -> None:
    bare = of_shares(np.array([True, False]), 0)
    assert difference(bare, bare) == Difference(0.5, 0.5, 0.0, 0.0, 0.0, 0.0, True, "no difference shown")


def test_thirds_cover_every_value_once() -> None:
    assert thirds([1, 2, 3, 4, 5, 6]) == [(1, 2), (3, 4), (5, 6)]
    assert thirds([7, 7, 7]) == [(7, 7)]
    assert thirds([1, 1, 1, 1, 9]) == [(1, 1), (9, 9)]
