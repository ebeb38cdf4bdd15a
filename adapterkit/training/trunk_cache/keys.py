"""Keys of the rows of a batch: digests of what the model reads, so that any change of it is another row.

Axes: B rows (of several choices: one for each choice), T tokens.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from adapterkit.adapted import Adapted
from adapterkit.data import group_by_length
from adapterkit.tasks.protocol import Feature
from adapterkit.training.trunk_cache.segment import KEY_BYTES

BATCH_TOKENS = 4096
_MASK = "attention_mask"


class Keyed(NamedTuple):
    """The rows of a batch."""

    keys: list[bytes]
    """One per row."""
    lengths: list[int]
    """Tokens of each row."""


def flat_inputs(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's inputs of a batch, each (B, T), whatever stands before the last axis."""
    return {name: value.flatten(0, -2) for name, value in inputs.items() if not name.startswith("decoder_")}


def keyed_batches(adapted: Adapted, features: Sequence[Feature]) -> Iterator[tuple[list[Feature], Keyed | None]]:
    """Features in batches of like lengths, so that little is padding, the longest first; each with the keys of its
    rows."""
    lengths = [feature.length_tokens for feature in features]
    for chosen in group_by_length(lengths, batch_tokens=BATCH_TOKENS, shuffle=False):
        batch = [features[place] for place in chosen]
        yield batch, keys_of(flat_inputs(adapted.task.collate(batch, adapted.vocabulary).inputs))


def keys_of(inputs: Mapping[str, Tensor]) -> Keyed | None:
    """Keys of the rows of a batch; None where rows are not padded on the right, nothing says where they end, or several
    documents share a row. `inputs`: as `flat_inputs` gives them."""
    if _MASK not in inputs or "position_ids" in inputs:
        return None
    mask_BT = inputs[_MASK].cpu().numpy()
    lengths_B = mask_BT.sum(1)
    if not ((np.arange(mask_BT.shape[1]) < lengths_B[:, None]) == mask_BT).all():
        return None
    names = sorted(inputs.keys() - {_MASK})
    read = np.stack([inputs[name].cpu().numpy() for name in names], axis=1).astype("<i4")
    start = hashlib.blake2b(" ".join(names).encode(), digest_size=KEY_BYTES)
    keys, lengths = [], lengths_B.tolist()
    for row, length in enumerate(lengths):
        digest = start.copy()
        digest.update(read[row, :, :length].tobytes())
        keys.append(digest.digest())
    return Keyed(keys, lengths)
