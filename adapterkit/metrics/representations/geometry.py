"""How a representation fills its space (alignment, uniformity, anisotropy, effective rank), and how alike two are."""

# Axes: N items, D and E widths, R rank.

import math
from typing import Any

import numpy as np
from scipy.special import entr, logsumexp

from adapterkit.errors import DataError
from adapterkit.metrics.representations.checking import Floats, checked_labels, checked_states, spectrum, unit

_BLOCK_ROWS = 1024


def rank_me(states_ND: Any) -> float:
    """Effective rank: e to the entropy of the singular values' shares (Garrido et al. 2023, equation 1).

    Between 1 and the width: k equal orthogonal directions give k.
    Raises DataError: fewer than four items, constant features, or values that are not finite."""
    square_R, _ = spectrum(checked_states(states_ND))
    share_R = np.sqrt(square_R) / np.sqrt(square_R).sum()
    return float(np.exp(entr(share_R).sum()))


def anisotropy(states_ND: Any) -> float:
    """Mean cosine of all pairs of different items (Ethayarajh 2019).

    0 for directions without a preference, 1 for a single one. Errors as `rank_me`.
    """
    unit_ND = unit(checked_states(states_ND))
    items = len(unit_ND)
    return float((np.square(unit_ND.sum(axis=0)).sum() - np.square(unit_ND).sum()) / (items * (items - 1)))


def alignment(states_ND: Any, labels_N: Any) -> float:
    """Mean squared distance, on the unit sphere, of pairs that share a label (Wang and Isola 2020, α = 2).

    Between 0 and 4; lower: items of one class lie together. NaN where no two items share a label.
    Raises DataError: see `rank_me`; or a single class."""
    states_ND, labels_N = checked_labels(states_ND, labels_N)
    unit_ND = unit(states_ND)
    total, pairs = 0.0, 0
    for label in np.unique(labels_N):
        of_label = unit_ND[labels_N == label]
        count = len(of_label)
        # Σ‖u - v‖² over ordered pairs = 2·count·Σ‖u‖² - 2·‖Σu‖².
        total += 2 * count * np.square(of_label).sum() - 2 * np.square(of_label.sum(axis=0)).sum()
        pairs += count * (count - 1)
    return float(total / pairs) if pairs else float("nan")


def uniformity(states_ND: Any) -> float:
    """log E e^(-2·‖u - v‖²) over all pairs of different items on the unit sphere (Wang and Isola 2020, t = 2).

    At most 0, where all are alike; lower: more spread out. Errors as `rank_me`.
    """
    unit_ND = unit(checked_states(states_ND))
    items = len(unit_ND)
    length_N = np.square(unit_ND).sum(axis=1)
    parts = []
    for first in range(0, items, _BLOCK_ROWS):
        block_BD = unit_ND[first : first + _BLOCK_ROWS]
        square_BN = length_N[first : first + _BLOCK_ROWS, None] + length_N - 2 * block_BD @ unit_ND.T
        value_BN = -2 * np.maximum(square_BN, 0.0)
        rows = np.arange(len(block_BD))
        value_BN[rows, first + rows] = -np.inf  # an item and itself
        parts.append(logsumexp(value_BN))
    return float(logsumexp(parts) - np.log(items) - np.log(items - 1))


def debiased_cka(one_ND: Any, other_NE: Any) -> float:
    """Linear centred kernel alignment from unbiased HSIC (Nguyen et al. 2021; Song et al. 2012, equation 5).

    1 for representations that differ by a rotation, a shift and a scale; about 0 for independent ones.
    `one_ND`: features. `other_NE`: others of the same items, in the same order. Raises DataError: other items, fewer
    than four, constant features, or values that are not finite."""
    one_ND, other_NE = checked_states(one_ND), checked_states(other_NE)
    if len(one_ND) != len(other_NE):
        raise DataError(
            "these representations cannot be compared",
            [f"items: found {len(one_ND)} and {len(other_NE)}, expected the same"],
        )
    # Neither a shift nor a scale counts; without them little is lost to rounding.
    one_ND, other_NE = one_ND - one_ND.mean(axis=0), other_NE - other_NE.mean(axis=0)
    one_ND, other_NE = one_ND / abs(one_ND).max(), other_NE / abs(other_NE).max()
    both = math.sqrt(max(_hsic(one_ND, one_ND) * _hsic(other_NE, other_NE), 0.0))
    return _hsic(one_ND, other_NE) / both if both else float("nan")


def _hsic(one_ND: Floats, other_NE: Floats) -> float:
    """Unbiased HSIC of two linear kernels of centred features, without a matrix of N by N.

    Of the kernels without their diagonals: K = XXᵀ - diag(‖x‖²), so that tr(KL) = ‖XᵀY‖² - Σ‖x‖²‖y‖², and as Σx = 0,
    K·1 = -‖x‖².
    """
    items = len(one_ND)
    one_N, other_N = (one_ND**2).sum(axis=1), (other_NE**2).sum(axis=1)
    both = float(one_N @ other_N)
    trace = float(((one_ND.T @ other_NE) ** 2).sum()) - both
    total = float(one_N.sum() * other_N.sum()) / ((items - 1) * (items - 2))
    return (trace + total - 2 * both / (items - 2)) / (items * (items - 3))
