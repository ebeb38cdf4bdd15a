"""How alike two representations of the same items are, whatever turns or scales them."""

# Axes: N items, D and E widths.

import math
from typing import Any

from adapterkit.errors import DataError
from adapterkit.metrics.representations.checking import Floats, checked_states


def debiased_cka(one_ND: Any, other_NE: Any) -> float:
    """Linear centred kernel alignment from unbiased HSIC (Nguyen et al. 2021; Song et al. 2012, equation 5).

    1 for representations that differ by a rotation, a shift and a scale; about 0 for independent ones.

    Args:
        one_ND: features.
        other_NE: others of the same items, in the same order.

    Raises:
        DataError: other items, fewer than four, constant features, or values that are not finite.
    """
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
