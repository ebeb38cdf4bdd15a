"""What keeping the states below the lowest adapted layer takes on the disk."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from adapterkit.adapted import Adapted
from adapterkit.data import Rows
from adapterkit.tasks.protocol import Feature
from adapterkit.training.datasets import RecipeRows
from adapterkit.training.trunk_cache.cut import NoCutError, cut_of
from adapterkit.training.trunk_cache.keys import keyed_batches


@dataclass(frozen=True)
class CachePlan:
    """A cached trunk.

    Attributes:
        reason: why nothing can be kept, or "".
        layer: that the kept states enter.
        texts, tokens: distinct ones, of all splits.
        size_bytes: tokens · hidden width · bytes of the format; one vector per text where the head pools.
    """

    reason: str
    layer: int = 0
    texts: int = 0
    tokens: int = 0
    size_bytes: int = 0


def plan_cache(adapted: Adapted, rows: RecipeRows, features: Sequence[Feature]) -> CachePlan:
    """What the trunk cache of a recipe's rows would take."""
    if not isinstance(rows.train, Rows):
        return CachePlan("streamed rows are not known before they are read")
    try:
        cut = cut_of(adapted)
    except NoCutError as error:
        return CachePlan(str(error))
    every = list(features)
    for held in (rows.validation, rows.test):
        if held is not None:
            every += rows.task.encode(held, adapted.vocabulary, "score").features
    lengths: dict[bytes, int] = {}
    for _, keyed in keyed_batches(adapted, every):
        if keyed is None:
            return CachePlan("its rows are not padded on the right")
        lengths.update(zip(keyed.keys, keyed.lengths, strict=True))
    tokens = len(lengths) if cut.pooling else sum(lengths.values())
    dtype = torch.float32 if cut.pooling else adapted.compute_dtype
    size = tokens * adapted.backbone.hidden_size * dtype.itemsize
    return CachePlan("", cut.layer, len(lengths), sum(lengths.values()), size)
