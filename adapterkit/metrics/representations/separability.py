"""What simple learners read out of a representation: nearest neighbours, a linear probe, clusters."""

# Axes: N items, D width, C classes, K neighbours.

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adapterkit.errors import DataError
from adapterkit.metrics.representations.checking import Floats, checked_labels, checked_states

PENALTIES = (0.1, 1.0, 10.0, 100.0, 1_000.0, 10_000.0)
"""Of the linear probe, on features whose overall variance is 1; each fold takes the best for what it was fitted on."""


class Clusters(NamedTuple):
    """How far groups of near items are the classes: the mean silhouette of the classes themselves (Rousseeuw 1987), in
    [-1, 1]; and of k-means' clusters with the classes, in [0, 1], the mutual information over the geometric mean of
    both entropies (`nmi`, Strehl and Ghosh 2002) and over the arithmetic one (Rosenberg and Hirschberg 2007)."""

    silhouette: float
    nmi: float
    v_measure: float


def neighbours(states_ND: Any, labels_N: Any, k: int = 5) -> NDArray[Any]:
    """The class that most of each item's k nearest others have, (N,), by Euclidean distance; of equals the nearer.
    Raises DataError: a single class, constant features, values that are not finite, or no k others."""
    classes = np.unique(labels_N)
    states_ND, labels_N = checked_labels(states_ND, labels_N)
    near_NK = _nearest(states_ND, k)
    votes_NC = np.zeros((len(states_ND), labels_N.max() + 1))
    # A nearer neighbour decides between classes with as many votes.
    vote_K = 1 + np.arange(k, 0, -1) / (k + 1) ** 2
    for place in range(k):
        votes_NC[np.arange(len(states_ND)), labels_N[near_NK[:, place]]] += vote_K[place]
    found_N: NDArray[Any] = classes[votes_NC.argmax(axis=1)]
    return found_N


def _nearest(states_ND: Floats, k: int) -> NDArray[Any]:
    """(N, K): each item's k nearest others, the nearest first."""
    from sklearn.neighbors import NearestNeighbors

    if not 1 <= k < len(states_ND):
        raise DataError("so many neighbours are not there", [f"k: found {k}, expected 1 to {len(states_ND) - 1}"])
    found_NK: NDArray[Any] = (
        NearestNeighbors(n_neighbors=k, algorithm="brute").fit(states_ND).kneighbors(return_distance=False)
    )  # of the fitted items, without each itself
    return found_NK


def near_targets(states_ND: Any, target_NC: Any, k: int = 5) -> Floats:
    """The mean of the numbers of each item's k nearest others, (N, C). Raises DataError as `linear_fit`."""
    states_ND, target_NC = checked_states(states_ND), np.asarray(target_NC, dtype=np.float64)
    mean_NC: Floats = target_NC[_nearest(states_ND, k)].mean(axis=1)
    return mean_NC


def linear_probe(states_ND: Any, labels_N: Any, groups_N: Any = None, *, folds: int = 5, seed: int = 0) -> Floats:
    """What a linear probe says of items that it was not fitted on, (N, C): classes in the order of their values.

    Alain and Bengio 2017, with the loss that has a closed form: ridge regression on the classes, cross-validated.

    Args:
        states_ND: features.
        labels_N: the class of every item.
        groups_N: items of one group are in one fold, as words of one sentence or choices of one question should be;
            None where each is by itself.
        folds: at most; fewer where there are fewer groups.
        seed: of the folds.

    Raises:
        DataError: see `neighbours`; or a single group.
    """
    states_ND, labels_N = checked_labels(states_ND, labels_N)
    target_NC = (labels_N[:, None] == np.arange(labels_N.max() + 1)).astype(np.float64)
    return linear_fit(states_ND, target_NC, groups_N, folds=folds, seed=seed)


def linear_fit(states_ND: Any, target_NC: Any, groups_N: Any = None, *, folds: int = 5, seed: int = 0) -> Floats:
    """`linear_probe` of numbers: what a ridge regression says of items that it was not fitted on, (N, C).
    Raises DataError: constant features, values that are not finite, or a single group."""
    from sklearn.model_selection import GroupKFold

    states_ND, target_NC = checked_states(states_ND), np.asarray(target_NC, dtype=np.float64)
    groups_N = np.arange(len(target_NC)) if groups_N is None else np.asarray(groups_N)
    folds = min(folds, len(np.unique(groups_N)))
    if folds < 2:
        raise DataError("a probe cannot be tested on what it was fitted on", ["groups: found 1, expected 2 or more"])
    scores_NC: Floats = np.zeros(target_NC.shape)
    states_ND = states_ND - states_ND.mean(axis=0)
    states_ND /= states_ND.std()
    square_DD, both_DC = states_ND.T @ states_ND, states_ND.T @ target_NC
    for _, tested in GroupKFold(folds, shuffle=True, random_state=seed).split(states_ND, groups=groups_N):
        asked_MD, answer_MC = states_ND[tested], target_NC[tested]
        # What is fitted on is what is left: products of all items, less those of the items that are asked.
        count = len(states_ND) - len(tested)
        mean_D, mean_C = -asked_MD.sum(axis=0) / count, (target_NC.sum(axis=0) - answer_MC.sum(axis=0)) / count
        spread_C = (target_NC**2).sum(axis=0) - (answer_MC**2).sum(axis=0) - count * mean_C**2
        weight_DC = _ridge(
            square_DD - asked_MD.T @ asked_MD - count * np.outer(mean_D, mean_D),
            both_DC - asked_MD.T @ answer_MC - count * np.outer(mean_D, mean_C),
            spread_C,
            count,
        )
        scores_NC[tested] = (asked_MD - mean_D) @ weight_DC + mean_C
    return scores_NC


def _ridge(square_DD: Floats, both_DC: Floats, spread_C: Floats, items: int) -> Floats:
    """Weights (D, C) of a ridge regression, with the penalty that generalised cross-validation takes.

    That is the one of the least ‖residual‖² / (N - degrees of freedom)² (Golub, Heath and Wahba 1979). Given are XᵀX,
    XᵀY and the diagonal of YᵀY, of centred features and targets of N items.
    """
    value_D, vector_DD = np.linalg.eigh(square_DD)
    there = value_D > value_D[-1] * np.finfo(np.float64).eps * len(value_D)
    value_R, vector_DR = value_D[there], vector_DD[:, there]
    turned_RC = vector_DR.T @ both_DC
    # What of the targets each direction can explain, and what none of them can.
    inside_R = (turned_RC**2).sum(axis=1) / value_R
    outside = max(float(spread_C.sum() - inside_R.sum()), 0.0)

    def criterion(penalty: float) -> float:
        left_R = penalty / (value_R + penalty)
        freedom = 1 + (1 - left_R).sum()
        return float((outside + (inside_R * left_R**2).sum()) / (items - freedom) ** 2)

    best = min(PENALTIES, key=criterion)
    weight_DC: Floats = vector_DR @ (turned_RC / (value_R + best)[:, None])
    return weight_DC


def clusters(states_ND: Any, labels_N: Any, *, seed: int = 0) -> Clusters:
    """Silhouette of the classes, and what k-means, with as many clusters as classes, has in common with them.
    Raises DataError: see `neighbours`; or as many classes as items."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import normalized_mutual_info_score, silhouette_score, v_measure_score

    states_ND, labels_N = checked_labels(states_ND, labels_N)
    classes = int(labels_N.max()) + 1
    if classes >= len(labels_N):
        raise DataError(
            "every item is a class of its own", [f"classes: found {classes}, expected fewer than {len(labels_N)}"]
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that fewer distinct items than classes are there is in the figures
        found_N = KMeans(classes, n_init=1, random_state=seed).fit_predict(states_ND)
    return Clusters(
        silhouette=float(silhouette_score(states_ND, labels_N)),
        nmi=float(normalized_mutual_info_score(labels_N, found_N, average_method="geometric")),
        v_measure=float(v_measure_score(labels_N, found_N)),
    )
