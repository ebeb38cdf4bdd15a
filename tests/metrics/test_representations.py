"""Measures of representations, against published scores, closed forms and their definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.special import gammaln, ive
from sklearn.datasets import fetch_california_housing, load_iris
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold

from adapterkit.errors import DataError
from adapterkit.metrics.representations import (
    alignment,
    anisotropy,
    clusters,
    debiased_cka,
    h_score,
    info_nce,
    label_information,
    linear_probe,
    logme,
    logme_regression,
    neighbours,
    online_codelength,
    rank_me,
    uniformity,
)
from adapterkit.metrics.representations.separability import PENALTIES

ITEMS = 4000

# What a score of ITEMS draws may be off by chance.
BY_CHANCE = 0.03


@pytest.fixture(scope="module")
def iris() -> tuple[Any, Any]:
    return load_iris(return_X_y=True)


def gaussians(distance: float, width: int = 3, items: int = ITEMS) -> tuple[Any, Any]:
    """Two classes, at ± distance on the first axis, with unit variance around."""
    chance = np.random.default_rng(0)
    label_N = chance.permutation(np.arange(items) % 2)
    state_ND = chance.normal(size=(items, width))
    state_ND[:, 0] += distance * (2 * label_N - 1)
    return state_ND, label_N


# -- published scores


def test_iris_has_the_published_h_score_and_logme(iris: Any) -> None:
    assert h_score(*iris) == pytest.approx(1.177842480406727, rel=1e-6)  # published from products in single precision
    assert logme(*iris) == pytest.approx(-0.16006022033609904, rel=1e-6)


@pytest.mark.parametrize(("k", "accuracy"), [(1, 0.96), (3, 0.96), (5, 29 / 30), (13, 29 / 30)])
def test_iris_has_the_published_accuracies_of_nearest_neighbours(iris: Any, k: int, accuracy: float) -> None:
    states_ND, label_N = iris
    assert (neighbours(states_ND, label_N, k) == label_N).mean() == pytest.approx(accuracy)


def test_california_housing_has_the_published_logme() -> None:
    try:
        states_ND, price_N = fetch_california_housing(return_X_y=True, download_if_missing=False)
    except OSError:
        pytest.skip("California housing is not on this machine: sklearn.datasets.fetch_california_housing() fetches it")
    assert logme_regression(states_ND[:, :4], price_N) == pytest.approx(-1.180475225470693, rel=1e-6)


# -- closed forms


def test_k_equal_orthogonal_directions_have_rank_k() -> None:
    for k in (2, 5, 9):
        assert rank_me(np.tile(np.eye(k, 12), (3, 1))) == pytest.approx(k)


def test_an_isotropic_gaussian_fills_its_space_and_a_shifted_one_a_cone() -> None:
    states_ND = np.random.default_rng(0).normal(size=(ITEMS, 50))
    assert rank_me(states_ND) == pytest.approx(50, rel=0.01)
    assert anisotropy(states_ND) == pytest.approx(0, abs=0.01)
    # E u = μ / sqrt(μ² + D σ²) along the shift, for many dimensions.
    states_ND[:, 0] += 10
    assert anisotropy(states_ND) == pytest.approx(100 / 150, abs=BY_CHANCE)


def test_directions_without_a_preference_are_as_uniform_as_the_sphere_allows() -> None:
    """E e^(4·u·v) over the sphere in D dimensions is Γ(D/2) · (2/4)^(D/2-1) · I_(D/2-1)(4)."""
    width = 6
    order = width / 2 - 1
    log_bessel = math.log(ive(order, 4.0)) + 4.0
    expected = -4 + gammaln(width / 2) + order * math.log(2 / 4) + log_bessel
    assert uniformity(np.random.default_rng(0).normal(size=(ITEMS, width))) == pytest.approx(expected, abs=0.01)


def test_distances_of_pairs_are_those_that_a_loop_finds() -> None:
    states_ND, label_N = gaussians(1.0, items=40)
    unit_ND = states_ND / np.linalg.norm(states_ND, axis=1, keepdims=True)
    pairs = [(i, j) for i in range(40) for j in range(40) if i != j]
    square = {pair: float(((unit_ND[pair[0]] - unit_ND[pair[1]]) ** 2).sum()) for pair in pairs}
    same = [square[pair] for pair in pairs if label_N[pair[0]] == label_N[pair[1]]]
    assert alignment(states_ND, label_N) == pytest.approx(np.mean(same))
    assert uniformity(states_ND) == pytest.approx(
        math.log(np.mean([math.exp(-2 * value) for value in square.values()]))
    )
    assert anisotropy(states_ND) == pytest.approx(np.mean([1 - value / 2 for value in square.values()]))


def test_two_gaussians_have_the_h_score_that_their_variances_give() -> None:
    """Between classes the variance is d², within them 1: d² / (d² + 1)."""
    for distance in (0.5, 1.0, 2.0):
        square = distance**2
        assert h_score(*gaussians(distance)) == pytest.approx(square / (square + 1), abs=BY_CHANCE)


def test_logme_is_the_evidence_of_a_bayesian_regression_at_its_best() -> None:
    """Against the marginal likelihood N(y; 0, XXᵀ/α + I/β), maximised over a grid."""
    chance = np.random.default_rng(0)
    states_ND, target_N = chance.normal(size=(30, 3)), chance.normal(size=30)
    target_N = target_N + states_ND @ [1.0, -2.0, 0.5]

    def evidence(alpha: float, beta: float) -> float:
        covariance_NN = states_ND @ states_ND.T / alpha + np.eye(30) / beta
        _, log_determinant = np.linalg.slogdet(covariance_NN)
        return float(
            -(log_determinant + target_N @ np.linalg.solve(covariance_NN, target_N) + 30 * math.log(2 * math.pi)) / 60
        )

    best = max(evidence(alpha, beta) for alpha in np.geomspace(0.05, 20, 60) for beta in np.geomspace(0.05, 20, 60))
    assert logme_regression(states_ND, target_N) == pytest.approx(best, abs=1e-3)  # as fine as the grid


# -- similarity


def test_rotation_shift_and_scale_leave_a_representation_alike() -> None:
    chance = np.random.default_rng(0)
    states_ND = chance.normal(size=(60, 8))
    rotation_DD, _ = np.linalg.qr(chance.normal(size=(8, 8)))
    assert debiased_cka(states_ND, 3e4 * states_ND @ rotation_DD - 7) == pytest.approx(1)


def test_independent_representations_are_not_alike_though_they_are_wide() -> None:
    chance = np.random.default_rng(0)
    found = [debiased_cka(chance.normal(size=(100, 200)), chance.normal(size=(100, 200))) for _ in range(20)]
    assert np.mean(found) == pytest.approx(0, abs=0.02)


def test_similarity_is_what_its_definition_gives() -> None:
    chance = np.random.default_rng(0)
    one_ND, other_NE = chance.normal(size=(12, 4)) + 2, chance.normal(size=(12, 3))
    other_NE[:, 0] += one_ND[:, 1]

    def hsic(one: Any, other: Any) -> float:
        """Song et al. 2012, equation 5, word by word."""
        n, ones = len(one), np.ones(len(one))
        k, m = one @ one.T, other @ other.T
        np.fill_diagonal(k, 0)
        np.fill_diagonal(m, 0)
        total = np.trace(k @ m) + ones @ k @ ones * (ones @ m @ ones) / ((n - 1) * (n - 2))
        return float((total - 2 / (n - 2) * ones @ k @ m @ ones) / (n * (n - 3)))

    expected = hsic(one_ND, other_NE) / math.sqrt(hsic(one_ND, one_ND) * hsic(other_NE, other_NE))
    assert debiased_cka(one_ND, other_NE) == pytest.approx(expected)


# -- information


def test_infonce_of_the_right_scores_finds_the_information_of_gaussians() -> None:
    """Correlated Gaussians share -½ log(1 - ρ²) nats."""
    chance, rho = np.random.default_rng(0), 0.8
    x_N = chance.normal(size=2000)
    y_N = rho * x_N + math.sqrt(1 - rho**2) * chance.normal(size=2000)
    log_ratio_NN = -((y_N - rho * x_N[:, None]) ** 2) / (2 * (1 - rho**2)) + y_N**2 / 2
    assert info_nce(log_ratio_NN) == pytest.approx(-0.5 * math.log(1 - rho**2), abs=BY_CHANCE)


def test_no_bound_by_infonce_exceeds_log_n() -> None:
    assert info_nce(1e6 * np.eye(8)) == pytest.approx(math.log(8))


def test_labels_that_a_state_tells_apart_are_known_whole_and_others_not_at_all() -> None:
    states_ND, label_N = gaussians(50.0)
    bound, ceiling = label_information(states_ND, label_N)
    assert bound == pytest.approx(math.log(2), abs=0.01)
    assert ceiling == pytest.approx(math.log(ITEMS / 2))
    bound, _ = label_information(states_ND[:, 1:], label_N)
    assert bound == pytest.approx(0, abs=0.01)


def test_a_code_is_as_short_as_the_labels_are_unknown() -> None:
    """Of y = ±1 and x = y·d + noise, H(y|x) = E log2(1 + e^(-2·d·x·y)); without x it takes one bit."""
    draws_N = np.random.default_rng(1).normal(size=200_000)
    for distance in (0.0, 1.0, 2.0):
        expected = np.mean(np.log2(1 + np.exp(-2 * distance * (distance + draws_N))))
        code = online_codelength(*gaussians(distance))
        assert code.bits_per_item == pytest.approx(expected, abs=BY_CHANCE)
        assert code.uniform_bits == ITEMS
    known = online_codelength(*gaussians(50.0))
    assert known.compression > 50


# -- separability


def test_a_linear_probe_finds_the_best_line_and_no_more() -> None:
    """Two unit Gaussians at ±1 are told apart with Φ(1) = 0.841."""
    states_ND, label_N = gaussians(1.0)
    assert (linear_probe(states_ND, label_N).argmax(1) == label_N).mean() == pytest.approx(0.841, abs=0.02)
    shuffled_N = np.random.default_rng(3).permutation(label_N)
    assert (linear_probe(states_ND, shuffled_N).argmax(1) == shuffled_N).mean() == pytest.approx(0.5, abs=BY_CHANCE)


@pytest.mark.parametrize("width", [40, 200])
def test_a_linear_probe_is_ridge_regression_with_the_penalty_that_cross_validation_takes(width: int) -> None:
    """Against scikit-learn's, with the penalty that leaves the least generalised error."""
    states_ND, label_N = gaussians(2, width=width, items=120)
    states_ND = states_ND * np.linspace(0.1, 3, width) + 5
    whole_ND = (states_ND - states_ND.mean(0)) / (states_ND - states_ND.mean(0)).std()
    target_NC = np.eye(2)[label_N]
    expected = np.zeros((120, 2))
    for fitted, tested in GroupKFold(5, shuffle=True, random_state=0).split(whole_ND, groups=np.arange(120)):
        x_MD, y_MC = whole_ND[fitted], target_NC[fitted]
        errors = {}
        for penalty in PENALTIES:
            centred_MD = x_MD - x_MD.mean(0)
            hat_MM = centred_MD @ np.linalg.solve(centred_MD.T @ centred_MD + penalty * np.eye(width), centred_MD.T)
            residual_MC = (y_MC - y_MC.mean(0)) - hat_MM @ (y_MC - y_MC.mean(0))
            errors[penalty] = (residual_MC**2).sum() / (len(x_MD) - 1 - np.trace(hat_MM)) ** 2
        best = min(errors, key=errors.__getitem__)
        expected[tested] = Ridge(alpha=best).fit(x_MD, y_MC).predict(whole_ND[tested])
    assert linear_probe(states_ND, label_N) == pytest.approx(expected, abs=1e-8)


def test_classes_may_have_any_names() -> None:
    states_ND, label_N = gaussians(50.0, items=60)
    named_N = np.where(label_N == 1, 12, 7)
    assert (neighbours(states_ND, named_N) == named_N).all()
    assert (linear_probe(states_ND, named_N).argmax(1) == label_N).all()
    assert logme(states_ND, named_N) == logme(states_ND, np.where(label_N == 1, "yes", "no"))


def test_a_probe_is_never_asked_of_a_group_that_it_has_seen() -> None:
    """Each group has a direction of its own, which tells its label to whoever has seen it, and nothing to others."""
    groups_N = np.repeat(np.arange(40), 4)
    label_N = np.random.default_rng(0).integers(0, 2, 40)[groups_N]
    states_ND = np.eye(40)[groups_N]
    assert (linear_probe(states_ND, label_N).argmax(1) == label_N).mean() > 0.95
    assert (linear_probe(states_ND, label_N, groups_N).argmax(1) == label_N).mean() < 0.7


def test_classes_far_apart_are_clusters_and_random_ones_are_not() -> None:
    states_ND, label_N = gaussians(50.0, items=200)
    assert clusters(states_ND, label_N).silhouette > 0.9
    assert clusters(states_ND, label_N)[1:] == pytest.approx((1, 1))
    assert clusters(states_ND[:, 1:], label_N) == pytest.approx((0, 0, 0), abs=0.05)


# -- what cannot be measured

OF_STATES = (rank_me, anisotropy, uniformity, lambda states: debiased_cka(states, states))
OF_LABELS = (logme, h_score, alignment, neighbours, linear_probe, clusters, label_information, online_codelength)


@pytest.mark.parametrize(
    ("states", "said"),
    [
        (np.ones((9, 3)), "all items are alike"),
        (np.eye(2), "found 2, expected 4 or more"),
        (np.zeros((0, 3)), "found 0, expected 4 or more"),
        (np.diag([1, 2, np.nan, 4]), "1 of 4 items hold NaN"),
        (np.ones(9), "expected (items, width)"),
    ],
)
def test_states_that_say_nothing_get_an_error_and_no_figure(states: Any, said: str) -> None:
    labels = np.arange(len(states)) % 2
    measures = [*OF_STATES, *(lambda states, measure=measure: measure(states, labels) for measure in OF_LABELS)]
    for measure in measures:
        with pytest.raises(DataError) as refused:
            measure(states)
        assert said in str(refused.value)


@pytest.mark.parametrize("measure", OF_LABELS)
def test_labels_that_say_nothing_get_an_error_and_no_figure(measure: Any) -> None:
    states_ND = np.random.default_rng(0).normal(size=(6, 2))
    with pytest.raises(DataError, match="every item has 1"):
        measure(states_ND, np.ones(6, dtype=int))
    with pytest.raises(DataError, match=r"found \(5,\), expected \(6,\)"):
        measure(states_ND, np.arange(5) % 2)


def test_too_many_neighbours_or_classes_are_refused() -> None:
    states_ND = np.random.default_rng(0).normal(size=(6, 2))
    with pytest.raises(DataError, match="found 6, expected 1 to 5"):
        neighbours(states_ND, np.arange(6) % 2, 6)
    with pytest.raises(DataError, match="found 6, expected fewer than 6"):
        clusters(states_ND, np.arange(6))
    assert math.isnan(alignment(states_ND, np.arange(6)))


def test_dimensions_that_never_change_change_neither_evidence_nor_rank() -> None:
    states_ND, label_N = gaussians(1.0, items=300)
    padded_ND = np.hstack([states_ND, np.zeros((300, 4))])
    assert logme(padded_ND, label_N) == pytest.approx(logme(states_ND, label_N))
    assert rank_me(padded_ND) == pytest.approx(rank_me(states_ND))


def test_fewer_items_than_dimensions_are_measured_too() -> None:
    chance = np.random.default_rng(0)
    states_ND = chance.normal(size=(20, 50))
    singular = np.linalg.svd(states_ND, compute_uv=False)
    share = singular / singular.sum()
    assert rank_me(states_ND) == pytest.approx(math.exp(-(share * np.log(share)).sum()))
    assert math.isfinite(logme(states_ND, np.arange(20) % 2))
