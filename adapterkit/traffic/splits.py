"""Sticky splits: the same key gets the same arm, and moving 5 % of the traffic moves 5 % of the keys.

Weighted rendezvous hashing (Thaler & Ravishankar 1998; Schindelhauer & Schomaker 2005): every arm draws a number from
the key, and the highest weighted draw answers. A change of shares moves only the keys that the new shares need.
"""

import math
from collections.abc import Mapping
from hashlib import blake2b

Split = Mapping[str, float]
"""Arm -> its share; shares are positive or 0 and count relative to their sum."""


def arm_of(split: Split, key: str, *, salt: str = "") -> str:
    """The arm that answers a key.

    Args:
        key: who asks; equal keys get equal arms as long as the split stays as it is.
        salt: a name that makes splits independent of each other, such as the task's.

    Raises:
        ValueError: no arm has a share, or a share is negative or no number.
    """
    wrong = {arm: share for arm, share in split.items() if not (math.isfinite(share) and share >= 0)}
    if wrong or not any(split.values()):
        raise ValueError(f"a split needs shares of 0 or more, and one above 0; found {dict(split)}")
    return max((share / -math.log(unit(f"{salt}\0{arm}\0{key}")), arm) for arm, share in split.items() if share)[1]


def unit(text: str) -> float:
    """A number in (0, 1) that depends on the text alone and is spread evenly over texts."""
    return (int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") + 1) / (2**64 + 2)
