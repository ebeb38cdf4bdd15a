"""Which attention a trunk computes with while it trains on a CPU.

Axes: B rows, H heads, T tokens, D head width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

LONGEST_EAGER: Mapping[torch.dtype, int] = {torch.float32: 64, torch.bfloat16: 256}
"""Up to how many tokens plain attention trains at least as fast as the fused one on a CPU, by number format.

The fused kernel's backward, milliseconds against the plain one's, one core of a Zen 4, torch 2.13, (B, H, T, D):
bf16 (64, 12, 16, 32) 85 / 1.6; (32, 12, 64, 32) 76 / 10; (16, 12, 128, 32) 56 / 27; (8, 12, 256, 32) 45 / 34;
(8, 12, 384, 32) 86 / 110. fp32 (64, 12, 16, 32) 3.8 / 1.5; (32, 12, 64, 32) 12 / 9; (16, 12, 128, 32) 18 / 19.
"""


def attention_configs(trunk: nn.Module) -> list[Any]:
    """The configs that a trunk's attention layers read: one, or one per stack of an encoder-decoder."""
    configs = {id(module.config): module.config for module in trunk.modules() if isinstance(module, PreTrainedModel)}
    return list(configs.values())


@contextmanager
def attention_for_training(configs: list[Any], device: torch.device, dtype: torch.dtype, tokens: int) -> Iterator[None]:
    """Inside, rows of this length attend in the way that trains fastest here. The answers differ by rounding only.

    Args:
        configs: of the trunk, from `attention_configs`.
        dtype: the format of the matrix products.
        tokens: T, padding included.
    """
    fused = [config for config in configs if config._attn_implementation == "sdpa"]
    if device.type != "cpu" or tokens > LONGEST_EAGER.get(dtype, 0) or not fused:
        yield
        return
    for config in fused:
        config._attn_implementation = "eager"
    try:
        yield
    finally:
        for config in fused:
            config._attn_implementation = "sdpa"
