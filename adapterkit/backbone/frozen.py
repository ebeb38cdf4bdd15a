"""What becomes of a trunk when it is loaded: it is frozen, and told once how adapters on it train fast."""

from __future__ import annotations

from torch import nn

from adapterkit.backbone.attention import use_own_attention
from adapterkit.backbone.dropout import use_quick_dropout


def freeze(trunk: nn.Module) -> None:
    """Switch a trunk's gradients and dropout off. Its answers stay transformers' own, every bit."""
    # Derived from one of transformers' modules, which bring Accelerate with them.
    from adapterkit.backbone.activation import use_fused_activations

    trunk.requires_grad_(False).eval()
    use_own_attention(trunk)
    use_quick_dropout(trunk)
    use_fused_activations(trunk)
