"""Lower bounds of what a representation says of the labels."""

# Axes: N items, M other items, D width, C classes.

import math
import warnings
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp

from adapterkit.metrics.representations.checking import Floats, Labels, checked_labels, unit

PORTIONS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)
"""Shares of the items after which the code's model is fitted again (Voita and Titov 2020, section 3.2.2)."""

TEMPERATURES = (math.inf, *(2.0**power for power in range(3, -9, -1)))
"""Of the InfoNCE bound; at an infinite one all labels go equally well, and the bound is 0."""

_MOST_STEPS = 50


class Codelength(NamedTuple):
    """How short all labels can be told, online, to whoever has the representation, and without any model."""

    bits: float
    uniform_bits: float
    items: int

    @property
    def compression(self) -> float:
        """How many times shorter than without a model; 1 where the representation says nothing."""
        return self.uniform_bits / self.bits

    @property
    def bits_per_item(self) -> float:
        """Of one label."""
        return self.bits / self.items


def info_nce(scores_NN: Any) -> float:
    """log N + E log softmax of the right one among N: a lower bound of information in nats (van den Oord et al. 2018).
    `scores_NN`: how well partner j goes with item i; its own stands on the diagonal. No score makes it exceed log N."""
    scores_NN = np.asarray(scores_NN, dtype=np.float64)
    return float(math.log(len(scores_NN)) + np.mean(np.diag(scores_NN) - logsumexp(scores_NN, axis=1)))


def label_information(states_ND: Any, labels_N: Any, *, seed: int = 0) -> tuple[float, float]:
    """InfoNCE's lower bound of the information between states and labels, and its ceiling log N, both in nats.

    A label is scored by the cosine with the mean direction of its class, over a temperature; both come from one half
    of the items, and the bound from the other.
    Raises DataError: a single class, constant features, or values that are not finite."""
    states_ND, labels_N = checked_labels(states_ND, labels_N)
    order = np.random.default_rng(seed).permutation(len(labels_N))
    fitted, tested = order[: len(order) // 2], order[len(order) // 2 :]
    unit_ND = unit(states_ND - states_ND[fitted].mean(axis=0))
    sum_CD = np.zeros((labels_N.max() + 1, unit_ND.shape[1]))
    np.add.at(sum_CD, labels_N[fitted], unit_ND[fitted])
    # While the temperature is chosen, an item is no part of the mean that it is compared with.
    cosine_MC = unit_ND[fitted] @ unit(sum_CD).T
    own_MD = unit(sum_CD[labels_N[fitted]] - unit_ND[fitted])
    cosine_MC[np.arange(len(fitted)), labels_N[fitted]] = (unit_ND[fitted] * own_MD).sum(axis=1)
    best = max(TEMPERATURES, key=lambda temperature: _bound(cosine_MC / temperature, labels_N[fitted]))
    cosine_NC = unit_ND[tested] @ unit(sum_CD).T
    return _bound(cosine_NC / best, labels_N[tested]), math.log(len(tested))


def _bound(scores_NC: Floats, labels_N: Labels) -> float:
    """`info_nce` of items with their labels, where every item's label is among the partners of all."""
    count_C = np.bincount(labels_N, minlength=scores_NC.shape[1])
    right_N = scores_NC[np.arange(len(labels_N)), labels_N]
    return float(math.log(len(labels_N)) + np.mean(right_N - logsumexp(scores_NC, axis=1, b=count_C)))


def online_codelength(states_ND: Any, labels_N: Any, *, seed: int = 0) -> Codelength:
    """Length of the labels sent in growing portions, each coded by a linear probe fitted on those before it.

    Voita and Titov 2020, equation 3. The labels' entropy less this length is a lower bound of the information that the
    states have of them. After n labels a share of 1 / (n + 1) of the code is a uniform one, so that no label costs
    infinitely much.
    Raises DataError: a single class, constant features, or values that are not finite."""
    states_ND, labels_N = checked_labels(states_ND, labels_N)
    items, classes = len(labels_N), int(labels_N.max()) + 1
    order = np.random.default_rng(seed).permutation(items)
    ends = sorted({max(1, math.ceil(share * items)) for share in PORTIONS})
    bits = ends[0] * math.log2(classes)
    for start, end in pairwise(ends):
        code_NC = _probe(states_ND[order[:start]], labels_N[order[:start]], states_ND[order[start:end]], classes)
        probability_N = code_NC[np.arange(end - start), labels_N[order[start:end]]]
        uniform = 1 / (start + 1)
        bits -= float(np.log2((1 - uniform) * probability_N + uniform / classes).sum())
    return Codelength(bits, items * math.log2(classes), items)


def _probe(fitted_MD: Floats, labels_M: Labels, asked_ND: Floats, classes: int) -> Floats:
    """Probabilities (N, C) of a logistic regression; where only one class was seen, that class."""
    from sklearn.linear_model import LogisticRegression

    probability_NC = np.zeros((len(asked_ND), classes))
    seen = np.unique(labels_M)
    if len(seen) == 1:
        probability_NC[:, seen[0]] = 1.0
        return probability_NC
    mean_D, spread = fitted_MD.mean(axis=0), float(fitted_MD.std())
    scale = 1 / spread if spread else 1.0
    with warnings.catch_warnings():
        # That it could be fitted better, or has few items of each class: any model codes, a better one codes shorter.
        warnings.simplefilter("ignore")
        # Single precision halves the time, and bits are read to three digits.
        probe = LogisticRegression(max_iter=_MOST_STEPS).fit(
            ((fitted_MD - mean_D) * scale).astype(np.float32), labels_M
        )
        probability_NC[:, seen] = probe.predict_proba(((asked_ND - mean_D) * scale).astype(np.float32))
    return probability_NC
