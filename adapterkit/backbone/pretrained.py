"""transformers' models and layers, asked for without importing what only a model needs.

transformers' models bring Accelerate and torchao with them, where these are installed. They are in memory once there is
a model, and not before.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeGuard

from torch.utils.checkpoint import checkpoint

from adapterkit.backbone.dropout import first_and_again

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.modeling_layers import GradientCheckpointingLayer


def is_model(module: Any) -> TypeGuard[PreTrainedModel]:
    """Whether a module is one of transformers' models, or the trunk in one."""
    from transformers import PreTrainedModel

    return isinstance(module, PreTrainedModel)


def is_layer(module: Any) -> TypeGuard[GradientCheckpointingLayer]:
    """Whether a module is one of transformers' layers."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return isinstance(module, GradientCheckpointingLayer)


def recompute(layer: Any) -> bool:
    """Let a layer keep only what enters it, and be computed again in the backward pass. Returns whether that is new."""
    if layer.gradient_checkpointing:
        return False
    layer.gradient_checkpointing = True
    layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False, context_fn=first_and_again)
    return True


def keep(layer: Any) -> None:
    """Undo `recompute`."""
    del layer.gradient_checkpointing, layer._gradient_checkpointing_func
