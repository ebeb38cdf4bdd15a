"""Whether rows of today are like those of a reference: energy distance with a permutation test, and label shift.

Axes: N rows, D hidden width, W kept width, R permutations.
"""

import math
from collections.abc import Mapping
from hashlib import shake_256
from typing import Any

import numpy as np

WIDTH = 64
"""Numbers that are kept of a pooled state: random projections keep distances (Johnson & Lindenstrauss 1984)."""
ROUNDS = 199
_SPREAD = 1e-4


def projected(states_ND: Any) -> Any:
    """States onto `WIDTH` directions of signs drawn from a hash, which are the same everywhere for ever. (N, W)."""
    states_ND = np.asarray(states_ND, dtype=np.float64)
    width = states_ND.shape[1]
    raw = shake_256(f"adapterkit {width} {WIDTH}".encode()).digest((width * WIDTH + 7) // 8)
    signs_DW = np.unpackbits(np.frombuffer(raw, dtype=np.uint8))[: width * WIDTH].reshape(width, WIDTH) * 2.0 - 1.0
    return (states_ND @ signs_DW / math.sqrt(WIDTH)).astype(np.float32)


def energy_test(a_NW: Any, b_NW: Any, *, rounds: int = ROUNDS, seed: int = 0) -> tuple[float, float]:
    """The energy distance of two sets of rows, and how often sets drawn from both together are as far apart.

    E = 2 E|a - b| - E|a - a'| - E|b - b'| (Székely & Rizzo 2013, eq. 1). Of two sets from one distribution the second
    number is at most p with a probability of at most p.
    Returns distance, and p in [1 / (rounds + 1), 1]."""
    from scipy.spatial.distance import cdist

    both = np.concatenate([np.asarray(a_NW, dtype=np.float64), np.asarray(b_NW, dtype=np.float64)])
    count, rows = len(a_NW), len(both)
    apart = cdist(both, both)
    generator, first = np.random.default_rng(seed), np.arange(rows) < count
    members_RN = np.stack([first, *(generator.permutation(first) for _ in range(rounds))]).astype(np.float64)
    others_RN = 1.0 - members_RN
    near_RN, far_RN = members_RN @ apart, others_RN @ apart
    m, n = count, rows - count
    found_R = (
        2 * (near_RN * others_RN).sum(1) / (m * n)
        - (near_RN * members_RN).sum(1) / m**2
        - (far_RN * others_RN).sum(1) / n**2
    )
    as_far = int((found_R[1:] >= found_R[0] - 1e-12).sum())
    return float(max(found_R[0], 0.0)), (1 + as_far) / (rounds + 1)


def label_shift(expected: Mapping[str, int], found: Mapping[str, int]) -> float | None:
    """Population stability index: sum of (found - expected) ln(found / expected) over shares of labels.

    By custom below 0.1 is none, above 0.25 much. A label without rows counts as a share of 0.0001. None where a side is
    empty.
    """
    totals = sum(expected.values()), sum(found.values())
    if not all(totals):
        return None
    shift = 0.0
    for label in {**expected, **found}:
        before = max(expected.get(label, 0) / totals[0], _SPREAD)
        today = max(found.get(label, 0) / totals[1], _SPREAD)
        shift += (today - before) * math.log(today / before)
    return shift
