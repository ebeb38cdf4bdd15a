"""Whether a module is one of transformers' models or layers, asked without importing what only a model needs.

transformers' models bring Accelerate and torchao with them, where these are installed. They are in memory once there is
a model, and not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

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
