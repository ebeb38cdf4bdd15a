"""BERT, GPT-2 and Llama with AdapterHub's equations, written out in plain torch operations.

Independent of transformers' modules, of PEFT and of adapterkit: it reads tensors by name and computes.

Axes: B rows, T tokens, D hidden width, H heads, W width of one head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass
class Adapter:
    """f at every sublayer, and where it stands."""

    placement: str
    tensors: Mapping[str, Tensor]
    scale: float = 1.0

    def f(self, path: str, z: Tensor) -> Tensor:
        """f(z) = s·W_up·relu(W_down·z + b_d) + b_u with the scale over all of it, as AdapterHub has it."""
        get = {name: self.tensors[f"{path}.bottleneck_{name}"] for name in self._names}
        hidden = torch.clamp(z @ get["down.weight"].T + get["down.bias"], min=0)
        scale = self.tensors.get(f"{path}.bottleneck_scale", torch.tensor(self.scale))
        return scale * (hidden @ get["up.weight"].T + get["up.bias"])

    _names = ("down.weight", "down.bias", "up.weight", "up.bias")

    def post_norm(self, path: str, name: str, h: Tensor, r: Tensor, norm: Any) -> Tensor:
        """A whole residual branch of a model that normalises after adding."""
        if self.placement == "houlsby":
            return norm(self.f(path, h) + h + r)
        if name == "attention":
            return norm(h + r)
        if self.placement == "pfeiffer":
            return norm(self.f(path, norm(h + r)) + h + r)
        return norm(self.f(path, r) + h + r)

    def pre_norm(self, path: str, name: str, h: Tensor, r: Tensor) -> Tensor:
        """A whole residual branch of a model that normalises before the sublayer."""
        if self.placement == "houlsby":
            return r + h + self.f(path, h)
        if name == "attention":
            return r + h
        if self.placement == "pfeiffer":
            return r + h + self.f(path, r + h)
        return r + h + self.f(path, r)


def bert(weights: Mapping[str, Tensor], ids_BT: Tensor, heads: int, layers: int, adapter: Adapter) -> Tensor:
    """BERT's last hidden states, without padding."""
    w = dict(weights)

    def linear(path: str, x: Tensor) -> Tensor:
        return x @ w[f"{path}.weight"].T + w[f"{path}.bias"]

    def norm(path: str) -> Any:
        return lambda x: F.layer_norm(x, x.shape[-1:], w[f"{path}.weight"], w[f"{path}.bias"], 1e-12)

    tables = [w[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")]
    x = norm("embeddings.LayerNorm")(tables[0][ids_BT] + tables[1][: ids_BT.shape[1]] + tables[2][0])
    for number in range(layers):
        at = f"encoder.layer.{number}"
        q, k, v = (split(linear(f"{at}.attention.self.{name}", x), heads) for name in ("query", "key", "value"))
        h = linear(f"{at}.attention.output.dense", attend(q, k, v, causal=False))
        x = adapter.post_norm(
            f"{at}.attention.output.dense", "attention", h, x, norm(f"{at}.attention.output.LayerNorm")
        )
        h = linear(f"{at}.output.dense", F.gelu(linear(f"{at}.intermediate.dense", x)))
        x = adapter.post_norm(f"{at}.output.dense", "feedforward", h, x, norm(f"{at}.output.LayerNorm"))
    return x


def gpt2(weights: Mapping[str, Tensor], ids_BT: Tensor, heads: int, layers: int, adapter: Adapter) -> Tensor:
    """GPT-2's last hidden states, without padding."""
    w = dict(weights)

    def linear(path: str, x: Tensor) -> Tensor:
        return x @ w[f"{path}.weight"] + w[f"{path}.bias"]

    def norm(path: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w[f"{path}.weight"], w[f"{path}.bias"], 1e-5)

    x = w["wte.weight"][ids_BT] + w["wpe.weight"][: ids_BT.shape[1]]
    for number in range(layers):
        at = f"h.{number}"
        q, k, v = (split(part, heads) for part in linear(f"{at}.attn.c_attn", norm(f"{at}.ln_1", x)).chunk(3, dim=-1))
        h = linear(f"{at}.attn.c_proj", attend(q, k, v, causal=True))
        x = adapter.pre_norm(f"{at}.attn.c_proj", "attention", h, x)
        inner = F.gelu(linear(f"{at}.mlp.c_fc", norm(f"{at}.ln_2", x)), approximate="tanh")
        x = adapter.pre_norm(f"{at}.mlp.c_proj", "feedforward", linear(f"{at}.mlp.c_proj", inner), x)
    return norm("ln_f", x)


def llama(
    weights: Mapping[str, Tensor], ids_BT: Tensor, heads: int, layers: int, adapter: Adapter, eps: float = 1e-6
) -> Tensor:
    """Llama's last hidden states, without padding."""
    w = dict(weights)

    def linear(path: str, x: Tensor) -> Tensor:
        return x @ w[f"{path}.weight"].T

    def norm(path: str, x: Tensor) -> Tensor:
        single = x.float()  # Llama's norms compute in fp32, whatever the dtype around them
        scaled = single * torch.rsqrt(single.pow(2).mean(-1, keepdim=True) + eps)
        return w[f"{path}.weight"] * scaled.to(x.dtype)

    x = w["embed_tokens.weight"][ids_BT]
    for number in range(layers):
        at = f"layers.{number}"
        n = norm(f"{at}.input_layernorm", x)
        width = w[f"{at}.self_attn.q_proj.weight"].shape[0] // heads
        kv_heads = w[f"{at}.self_attn.k_proj.weight"].shape[0] // width
        q = rotate(split(linear(f"{at}.self_attn.q_proj", n), heads))
        k = rotate(split(linear(f"{at}.self_attn.k_proj", n), kv_heads))
        v = split(linear(f"{at}.self_attn.v_proj", n), kv_heads)
        k, v = (t.repeat_interleave(heads // kv_heads, dim=1) for t in (k, v))
        h = linear(f"{at}.self_attn.o_proj", attend(q, k, v, causal=True))
        x = adapter.pre_norm(f"{at}.self_attn.o_proj", "attention", h, x)
        n = norm(f"{at}.post_attention_layernorm", x)
        inner = F.silu(linear(f"{at}.mlp.gate_proj", n)) * linear(f"{at}.mlp.up_proj", n)
        x = adapter.pre_norm(f"{at}.mlp.down_proj", "feedforward", linear(f"{at}.mlp.down_proj", inner), x)
    return norm("norm", x)


def split(x_BTD: Tensor, heads: int) -> Tensor:
    """Cut the hidden width into heads. Returns (B, H, T, W)."""
    return x_BTD.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(q_BHTW: Tensor, k_BHTW: Tensor, v_BHTW: Tensor, *, causal: bool) -> Tensor:
    """Softmax attention. Returns (B, T, D)."""
    scores = q_BHTW @ k_BHTW.transpose(-1, -2) / math.sqrt(q_BHTW.shape[-1])
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later, -math.inf)
    return (scores.softmax(-1) @ v_BHTW).transpose(1, 2).flatten(2)


def rotate(x_BHTW: Tensor, theta: float = 10_000.0) -> Tensor:
    """Rotary positions, halves turned against each other."""
    tokens, width = x_BHTW.shape[-2:]
    frequency = 1.0 / theta ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
    angle = torch.outer(torch.arange(tokens, dtype=torch.float32), frequency)
    cos, sin = (torch.cat([fn(angle)] * 2, -1).to(x_BHTW.dtype) for fn in (torch.cos, torch.sin))
    left, right = x_BHTW.chunk(2, dim=-1)
    return x_BHTW * cos + torch.cat([-right, left], -1) * sin
