"""LoRA initialisations that move a part of the weight into the adapter (PiSSA, OLoRA).

PEFT trains them on a changed backbone: W - s·B0·A0 stays in the weight and B, A start at B0, A0. While attached, so do
we. What leaves the attachment is relative to the untouched backbone, W + s·(B·A - B0·A0), which is plain LoRA of twice
the rank: [B, -B0]·[A; A0]. It needs no changed weight, and no decomposition when it is loaded.

Axes: R rank, I inputs, O outputs.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Conv1D

from adapterkit.methods.adapter_name import ADAPTER

A, B = "lora_A.weight", "lora_B.weight"


class MovedWeight:
    """The weights before they were split, and the part that was moved out."""

    def __init__(self, modules: Mapping[str, Any]) -> None:
        """Keep the weights of the modules that PEFT is about to split. `modules`: linears by path in the model."""
        self._modules = dict(modules)
        self._weights = {path: module.weight.data for path, module in modules.items()}
        for path, module in modules.items():
            module.weight.data = self._weights[path].clone()
        self._moved: dict[str, tuple[Tensor, Tensor]] = {}
        self._scaling: dict[str, float] = {}

    def take(self, layers: Mapping[str, Any]) -> None:
        """Remember what PEFT moved into its fresh layers, and make the weights what is exactly left over."""
        for path, layer in layers.items():
            self._scaling[path] = layer.scaling[ADAPTER]
            a_RI, b_OR = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
            self._move(path, a_RI.detach().clone(), b_OR.detach().clone())

    def exported(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The adapter's tensors relative to the untouched backbone: of twice the rank."""
        out = dict(state)
        for path, (a0_RI, b0_OR) in self._moved.items():
            out[f"{path}.{A}"] = torch.cat([state[f"{path}.{A}"], a0_RI])
            out[f"{path}.{B}"] = torch.cat([state[f"{path}.{B}"], -b0_OR], dim=1)
        return out

    def imported(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of `exported`; the weights become what the tensors say was left over."""
        out = dict(state)
        for path, (a0_RI, _) in list(self._moved.items()):
            rank = len(a0_RI)
            a_RI, b_OR = state[f"{path}.{A}"], state[f"{path}.{B}"]
            out[f"{path}.{A}"], out[f"{path}.{B}"] = a_RI[:rank], b_OR[:, :rank]
            self._move(path, a_RI[rank:].to(a0_RI).clone(), -b_OR[:, rank:].to(a0_RI))
        return out

    def config(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """PEFT's configuration of what `exported` gives: twice the rank, the same scaling, nothing to decompose."""
        factor = math.sqrt(2) if content["use_rslora"] else 2
        return {
            **content,
            "init_lora_weights": True,
            "r": 2 * content["r"],
            "rank_pattern": {path: 2 * rank for path, rank in content["rank_pattern"].items()},
            "lora_alpha": factor * content["lora_alpha"],
            "alpha_pattern": {path: factor * alpha for path, alpha in content["alpha_pattern"].items()},
        }

    def undo(self) -> None:
        """Put the weights back, bit for bit."""
        for path, weight in self._weights.items():
            self._modules[path].weight.data = weight

    def _move(self, path: str, a_RI: Tensor, b_OR: Tensor) -> None:
        self._moved[path] = a_RI, b_OR
        module, weight = self._modules[path], self._weights[path]
        moved = self._scaling[path] * b_OR.float() @ a_RI.float()
        left = weight.float() - (moved.T if is_transposed(module) else moved)
        module.weight.data = left.to(weight.dtype)


def is_transposed(module: nn.Module) -> bool:
    """Whether a linear keeps its weight as (I, O), as GPT-2's does."""
    return isinstance(module, Conv1D)
