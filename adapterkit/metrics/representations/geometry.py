"""How a representation fills its space: alignment, uniformity, anisotropy and effective rank."""

# Axes: N items, D width, R rank.

from typing import Any

import numpy as np
from scipy.special import entr, logsumexp

from adapterkit.metrics.representations.checking import checked_labels, checked_states, spectrum, unit

_BLOCK_ROWS = 1024


def rank_me(states_ND: Any) -> float:
    """Effective rank: e to the entropy of the singular values' shares (Garrido et al. 2023, equation 1).

    Between 1 and the width: k equal orthogonal directions give k.

    Raises:
        DataError: fewer than four items, constant features, or values that are not finite.
    """
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

    Raises:
        DataError: see `rank_me`; or a single class.
    """
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
