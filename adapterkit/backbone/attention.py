"""The attention that trunks compute with: transformers' own fused one, but where another is faster.

It is registered with transformers under a name, and a trunk is told this name once, when it is loaded. What a call does
follows from its arguments alone, so nothing is switched while a trunk is in use.

- For use it is transformers' `sdpa`, every bit.
- While something trains on a CPU, it is `plain_attention` where the fused kernel's backward is slow, or where the
  kernel cannot be used at all because weights are dropped.
- With `packed_rows` the rows of a batch come one behind the other, without padding: see `unpadded`.

Axes: B rows, H heads, T queries, S keys, D head width.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from adapterkit.backbone.dropout import Draw, calls_function
from adapterkit.backbone.plain_attention import attend_plainly
from adapterkit.backbone.pretrained import is_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "adapterkit"
"""What transformers' configs call this attention."""

LONGEST_PLAIN: Mapping[torch.dtype, int] = {torch.float32: 64, torch.bfloat16: 256}
"""Up to how many keys plain attention trains at least as fast as the fused one on a CPU, where nothing is dropped.

The fused kernel's backward, milliseconds against the plain one's, one core of a Zen 4, torch 2.13, (B, H, T, D):
bf16 (64, 12, 16, 32) 85 / 1.6; (32, 12, 64, 32) 76 / 10; (16, 12, 128, 32) 56 / 27; (8, 12, 256, 32) 45 / 34;
(8, 12, 384, 32) 86 / 110. fp32 (64, 12, 16, 32) 3.8 / 1.5; (32, 12, 64, 32) 12 / 9; (16, 12, 128, 32) 18 / 19.
"""


def use_own_attention(trunk: nn.Module) -> None:
    """Tell a trunk that was loaded with transformers' `sdpa` to attend as this module says.

    Some models have an `sdpa` of their own (Falcon); they keep it.
    """
    _register()
    for module in trunk.modules():
        if is_model(module) and module.config._attn_implementation == "sdpa" and _looks_up(module):
            module.config._attn_implementation = NAME


def implementation(config: Any) -> str:
    """The name under which a config's model looks up its attention; empty where there is none."""
    return str(getattr(config, "_attn_implementation", None) or "")


def drops_by_function(trunk: nn.Module) -> bool:
    """Whether layers of a trunk call torch's function to drop, or transformers' attention that does."""
    layers = [module for module in trunk.modules() if not isinstance(module, nn.Dropout)]
    eager = any(implementation(getattr(layer, "config", None)) == "eager" for layer in layers)
    return any(calls_function(forward, eager) for forward in {type(layer).forward for layer in layers})


def _looks_up(model: PreTrainedModel) -> bool:
    """Whether a model's layers look attention up by its name in transformers' table."""
    return hasattr(sys.modules[type(model).__module__], "ALL_ATTENTION_FUNCTIONS")


def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    packed_rows: Any = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in every layer, as `sdpa_attention_forward`. Returns (B, T, H, D), and no weights.
    `packed_rows`: the `packed_rows.PackedRows` of a batch without padding."""
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    if packed_rows is not None:
        window = kwargs.get("sliding_window")
        return packed_rows.attend(query, key, value, dropout, scaling, causal, window, position_bias), None
    if attention_mask is None or attention_mask.dtype == torch.bool:
        attended = _plain(query, key, value, attention_mask, dropout, scaling, causal, position_bias)
        if attended is not None:
            return attended.transpose(1, 2), None
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    asked = {"dropout": dropout, "scaling": scaling, "is_causal": is_causal, "position_bias": position_bias}
    found: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **asked, **kwargs)
    return found


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    scaling: float | None,
    causal: bool,
    position_bias: Tensor | None = None,
    drawn: Draw | None = None,
) -> Tensor:
    """Attention of (B, H, T, D) over (B, H', S, D), where H' divides H. Returns (B, H, T, D). `mask`: True where a
    query sees a key, broadcast to (B, H, T, S); None for all, or for all before with `causal`. `causal`: whether a
    query sees itself and what is before it, where there is no mask. `position_bias`: added to the scores. `drawn`: what
    masks are cut from; torch's fused kernel draws its own."""
    attended = _plain(query, key, value, mask, dropout, scaling, causal, position_bias, drawn)
    if attended is not None:
        return attended
    if position_bias is not None:
        mask, causal = _bias(query, key, mask, causal, position_bias), False
    return nn.functional.scaled_dot_product_attention(
        query,
        _for_every_head(key, query),
        _for_every_head(value, query),
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=causal and mask is None,
        scale=scaling,
    )


def _plain(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    scaling: float | None,
    causal: bool,
    position_bias: Tensor | None,
    drawn: Draw | None = None,
) -> Tensor | None:
    """`attend` without the fused kernel; None where that one is better."""
    trains = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad)
    # torch's kernel would draw masks of its own, of tensors without a gradient too.
    if (
        not (trains or dropout)
        or query.device.type != "cpu"
        or (position_bias is not None and position_bias.requires_grad)
    ):
        return None
    device = query.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype
    if not dropout and key.shape[2] > LONGEST_PLAIN.get(dtype, 0):
        return None
    bias = _bias(query, key, mask, causal, position_bias)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    key, value = _for_every_head(key, query), _for_every_head(value, query)
    return attend_plainly(query, key, value, bias, scale, dropout, drawn)


def _bias(query: Tensor, key: Tensor, mask: Tensor | None, causal: bool, position_bias: Tensor | None) -> Tensor | None:
    """What is added to the scores: the smallest number where a key is hidden. None where that is nothing."""
    queries, keys = query.shape[2], key.shape[2]
    if mask is None and causal and queries > 1:
        mask = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril()[None, None]
    if mask is None:
        return position_bias
    if mask.dim() == 4 and not mask.stride(2):
        mask = mask[:, :, :1]  # every query sees the same keys
    hidden = query.new_zeros(mask.shape).masked_fill_(mask.logical_not(), torch.finfo(query.dtype).min)
    return hidden if position_bias is None else hidden + position_bias


def _for_every_head(key: Tensor, query: Tensor) -> Tensor:
    """Keys or values that several heads share, once for each of them."""
    from transformers.integrations.sdpa_attention import repeat_kv

    repeated: Tensor = repeat_kv(key, query.shape[1] // key.shape[1])
    return repeated


@cache
def _register() -> None:
    """Let transformers know this attention by its name."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, attention_forward)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, sdpa_mask)
