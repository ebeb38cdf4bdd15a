"""What simple learners read out of a representation: nearest neighbours, a linear probe, clusters."""

# Axes: N items, D width, C classes, K neighbours.

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np

from adapterkit.errors import DataError
from adapterkit.metrics.representations.checking import Floats, Labels, checked_labels

ALPHAS = (1.0, 10.0, 100.0, 1000.0)
"""Strengths of the linear probe's penalty, of which each fold takes the best for its own training items."""


class Clusters(NamedTuple):
    """How far groups of near items are the classes.

    Attributes:
        silhouette: of the classes themselves, mean over items (Rousseeuw 1987): in [-1, 1].
        nmi: normalised mutual information of k-means' clusters with the classes: in [0, 1].
        v_measure: harmonic mean of homogeneity and completeness (Rosenberg and Hirschberg 2007), which is the mutual
            information over the arithmetic mean of both entropies; `nmi` is over the geometric one (Strehl and Ghosh
            2002).
    """

    silhouette: float
    nmi: float
    v_measure: float


def neighbours(states_ND: Any, labels_N: Any, k: int = 5) -> Labels:
    """The class that most of each item's k nearest others have, (N,), by Euclidean distance; of equals the nearer.

    Raises:
        DataError: a single class, constant features, values that are not finite, or no k others.
    """
    from sklearn.neighbors import NearestNeighbors

    states_ND, labels_N = checked_labels(states_ND, labels_N)
    if not 1 <= k < len(states_ND):
        raise DataError("so many neighbours are not there", [f"k: found {k}, expected 1 to {len(states_ND) - 1}"])
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(states_ND)
    near_NK = search.kneighbors(return_distance=False)  # of the fitted items, without each itself
    votes_NC = np.zeros((len(states_ND), labels_N.max() + 1))
    # A nearer neighbour decides between classes with as many votes.
    vote_K = 1 + np.arange(k, 0, -1) / (k + 1) ** 2
    for place in range(k):
        votes_NC[np.arange(len(states_ND)), labels_N[near_NK[:, place]]] += vote_K[place]
    found_N: Labels = votes_NC.argmax(axis=1)
    return found_N


def linear_probe(states_ND: Any, labels_N: Any, groups_N: Any = None, *, folds: int = 5, seed: int = 0) -> Floats:
    """What a linear probe says of items that it was not fitted on, (N, C): the highest score is its answer.

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
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold

    states_ND, labels_N = checked_labels(states_ND, labels_N)
    groups_N = np.arange(len(labels_N)) if groups_N is None else np.asarray(groups_N)
    folds = min(folds, len(np.unique(groups_N)))
    if folds < 2:
        raise DataError("a probe cannot be tested on what it was fitted on", ["groups: found 1, expected 2 or more"])
    target_NC = 2.0 * (labels_N[:, None] == np.arange(labels_N.max() + 1)) - 1
    scores_NC: Floats = np.zeros(target_NC.shape)
    for fitted, tested in GroupKFold(folds, shuffle=True, random_state=seed).split(states_ND, groups=groups_N):
        mean_D, spread = states_ND[fitted].mean(axis=0), states_ND[fitted].std()
        scale = 1 / spread if spread else 1.0
        probe = RidgeCV(alphas=ALPHAS).fit((states_ND[fitted] - mean_D) * scale, target_NC[fitted])
        scores_NC[tested] = probe.predict((states_ND[tested] - mean_D) * scale)
    return scores_NC


def clusters(states_ND: Any, labels_N: Any, *, seed: int = 0) -> Clusters:
    """Silhouette of the classes, and what k-means, with as many clusters as classes, has in common with them.

    Raises:
        DataError: see `neighbours`; or as many classes as items.
    """
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
