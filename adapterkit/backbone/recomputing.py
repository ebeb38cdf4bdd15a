"""Layers that keep only what enters them, and are computed again in the backward pass.

transformers' layers, and nothing else in its models, can be told so one by one.
"""

from functools import partial
from typing import Any

from torch.utils.checkpoint import checkpoint


def recompute(layer: Any) -> bool:
    """Compute a layer again in the backward pass. Returns whether that is new to it."""
    if layer.gradient_checkpointing:
        return False
    layer.gradient_checkpointing = True
    layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
    return True


def keep(layer: Any) -> None:
    """Undo `recompute`."""
    del layer.gradient_checkpointing, layer._gradient_checkpointing_func
