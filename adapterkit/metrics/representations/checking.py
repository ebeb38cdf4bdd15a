"""What every measure of a representation asks of its numbers, so that none says what means nothing."""

# Axes: N items, D width, R rank.

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterkit.errors import DataError

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

LEAST_ITEMS = 4
"""The debiased similarity divides by N - 3, and nothing is said of fewer items by any other measure either."""


def checked_states(states_ND: Any) -> Floats:
    """Features in float64.

    Raises DataError: not two axes, too few items, values that are not finite, or all items alike.
    """
    found = np.asarray(states_ND, dtype=np.float64)
    if found.ndim != 2 or found.shape[1] < 1:
        problem = f"shape: found {found.shape}, expected (items, width)"
    elif len(found) < LEAST_ITEMS:
        problem = f"items: found {len(found)}, expected {LEAST_ITEMS} or more"
    elif not np.isfinite(found).all():
        lost = int((~np.isfinite(found)).any(axis=1).sum())
        problem = f"values: {lost} of {len(found)} items hold NaN or infinity"
    elif not np.ptp(found, axis=0).any():
        problem = "values: all items are alike, so that they tell nothing apart"
    else:
        return found
    raise DataError("these states cannot be measured", [problem])


def checked_labels(states_ND: Any, labels_N: Any) -> tuple[Floats, Labels]:
    """Features in float64, and classes as 0, 1, … in the order of their values.

    Raises DataError: see `checked_states`; or as many labels as items are not there, or they are all the same.
    """
    found = checked_states(states_ND)
    labels = np.asarray(labels_N)
    if labels.shape != (len(found),):
        raise DataError("these labels cannot be measured", [f"labels: found {labels.shape}, expected ({len(found)},)"])
    classes, place_N = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise DataError(
            "these labels cannot be measured", [f"labels: every item has {classes[0]}, expected two classes or more"]
        )
    return found, place_N.astype(np.int64)


def unit(states_ND: Floats) -> Floats:
    """Every item at length 1; an item of zeros stays so."""
    length_N1 = np.linalg.norm(states_ND, axis=1, keepdims=True)
    return states_ND / np.where(length_N1 == 0, 1.0, length_N1)


def spectrum(states_ND: Floats) -> tuple[Floats, NDArray[np.float64]]:
    """Squared singular values that are not zero, (R,), largest first, and their right vectors, (D, R)."""
    if len(states_ND) < states_ND.shape[1]:  # the smaller product of the two; its vectors lead to the others
        square_N, left_NN = np.linalg.eigh(states_ND @ states_ND.T)
        kept = square_N > _least(square_N, states_ND)
        right_DR = states_ND.T @ left_NN[:, kept] / np.sqrt(square_N[kept])
        return square_N[kept][::-1], right_DR[:, ::-1]
    square_D, right_DD = np.linalg.eigh(states_ND.T @ states_ND)
    kept = square_D > _least(square_D, states_ND)
    return square_D[kept][::-1], right_DD[:, kept][:, ::-1]


def _least(square_R: Floats, states_ND: Floats) -> float:
    return float(square_R[-1] * np.finfo(np.float64).eps * max(states_ND.shape))
