"""How well a linear head would do on a representation, without training one: LogME and the shrunk H-score."""

# Axes: N items, D width, C classes or targets.

import math
from typing import Any

import numpy as np

from adapterkit.metrics.representations.checking import Floats, checked_labels, checked_states, spectrum

_MOST_STEPS = 11
_STEP_TOLERANCE = 1e-3
_NO_ZERO = 1e-5
"""The three of the authors' own code, whose published scores are reproduced so."""


def logme(states_ND: Any, labels_N: Any) -> float:
    """Log of the maximum evidence of a Bayesian linear model, per item, mean over classes (You et al. 2021).

    Higher is better; only scores of the same items and labels can be compared.
    `states_ND`: features. `labels_N`: the class of every item. Raises DataError: fewer than three items, a single
    class, constant features, or values that are not finite."""
    states_ND, labels_N = checked_labels(states_ND, labels_N)
    return logme_regression(states_ND, labels_N[:, None] == np.unique(labels_N))


def logme_regression(states_ND: Any, target_NC: Any) -> float:
    """`logme` of numbers instead of classes: mean evidence over the targets. Arguments and errors as there."""
    states_ND = checked_states(states_ND)
    target_NC = np.asarray(target_NC, dtype=np.float64).reshape(len(states_ND), -1)
    # The features are taken as they are, not centred: their mean serves as the model's constant.
    square_R, vectors_DR = spectrum(states_ND)
    projected_RC = (vectors_DR.T @ (states_ND.T @ target_NC)) / np.sqrt(square_R)[:, None]
    total_C = (target_NC**2).sum(axis=0)
    evidence_C = [
        _evidence(len(states_ND), square_R, projected_R**2, total)
        for projected_R, total in zip(projected_RC.T, total_C, strict=True)
    ]
    return float(np.mean(evidence_C))


def _evidence(items: int, square_R: Floats, projected_R: Floats, total: float) -> float:
    """Evidence per item of one target. `projected_R`: squared projections of it on the left singular vectors."""
    outside = max(total - projected_R.sum(), 0.0)
    alpha = beta = 1.0
    weight = residual = 0.0
    for _ in range(_MOST_STEPS):
        balance = alpha / beta
        gamma = (square_R / (square_R + balance)).sum()
        weight = (square_R * projected_R / (balance + square_R) ** 2).sum()
        residual = (projected_R / (1 + square_R / balance) ** 2).sum() + outside
        alpha = gamma / (weight + _NO_ZERO)
        beta = (items - gamma) / (residual + _NO_ZERO)
        if abs(alpha / beta - balance) <= _STEP_TOLERANCE * balance:
            break
    evidence = (
        len(square_R) * math.log(alpha)
        + items * math.log(beta)
        - np.log(alpha + beta * square_R).sum()
        - beta * residual
        - alpha * weight
        - items * math.log(2 * math.pi)
    )
    return float(evidence / (2 * items))


def h_score(states_ND: Any, labels_N: Any) -> float:
    """tr(cov(f)⁻¹ · cov(E[f|y])), with the covariance shrunk (Bao et al. 2019; Ibrahim et al. 2021, equation 8).

    Between 0 and the number of classes less one; higher is better.
    `states_ND`: features. `labels_N`: the class of every item. Raises DataError: see `logme`."""
    from sklearn.covariance import ledoit_wolf

    states_ND, labels_N = checked_labels(states_ND, labels_N)
    centred_ND = states_ND - states_ND.mean(axis=0)
    covariance_DD, shrinkage = ledoit_wolf(centred_ND, assume_centered=True)
    classes, place_N, count_C = np.unique(labels_N, return_inverse=True, return_counts=True)
    mean_CD = np.zeros((len(classes), centred_ND.shape[1]))
    np.add.at(mean_CD, place_N, centred_ND)
    mean_CD /= np.sqrt(count_C)[:, None]
    between_DD = mean_CD.T @ mean_CD / (len(centred_ND) - 1)
    return float((1 - shrinkage) * np.trace(np.linalg.pinv(covariance_DD, rcond=1e-15, hermitian=True) @ between_DD))
