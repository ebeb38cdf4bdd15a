"""What becomes of a trunk when it is loaded: it is frozen, and told once how adapters on it train fast."""

from typing import Any

from torch import nn

from adapterkit.backbone.attention import use_own_attention
from adapterkit.backbone.classes import is_causal
from adapterkit.backbone.dropout import use_quick_dropout
from adapterkit.backbone.recognise import find_sites
from adapterkit.backbone.sites import Sites
from adapterkit.errors import SiteError


def freeze(trunk: nn.Module) -> None:
    """Switch a trunk's gradients and dropout off. Its answers stay transformers' own, every bit."""
    # Derived from one of transformers' modules, which bring Accelerate with them.
    from adapterkit.backbone.activation import use_fused_activations

    trunk.requires_grad_(False).eval()
    use_own_attention(trunk)
    use_quick_dropout(trunk)
    use_fused_activations(trunk)


def freeze_for(trunk: Any, tokenizer: Any) -> Sites | SiteError:
    """Freeze a trunk that reads what a tokenizer writes, and find its sites, or why they are not known."""
    if is_causal(trunk.config):
        # transformers' classification heads on decoders find a row's last token by this number.
        trunk.config.pad_token_id = tokenizer.pad_token_id
    freeze(trunk)
    try:
        return find_sites(trunk)
    except SiteError as error:
        return error
