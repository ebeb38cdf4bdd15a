"""Small worlds that bottleneck layers stand in."""

from __future__ import annotations

from typing import Any

import torch
from peft import get_peft_model
from torch import nn

from adapterkit.methods.bottleneck import BottleneckConfig, BottleneckLayer


def linear_world(placement: str, norm: nn.Module | None = None, **more: Any) -> tuple[nn.Linear, BottleneckLayer, Any]:
    """A sublayer by hand: an entry that sees r, and a linear that gives h."""
    torch.manual_seed(0)
    entry, base = nn.Identity(), nn.Linear(4, 4)
    config = BottleneckConfig(
        target_modules=["base"], residual_modules={"base": "entry"}, placement=placement, width=2, **more
    )
    layer = BottleneckLayer(base, "a", config, residual=("entry", entry), norm=norm)
    with torch.no_grad():
        for parameter in layer.bottleneck_up.parameters():
            parameter.normal_()
    return base, layer, entry


class Block(nn.Module):
    """A pre-norm feed-forward block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.inner, self.outer = nn.LayerNorm(4), nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.outer(torch.relu(self.inner(self.norm(x))))


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def config_of(placement: str, **more: Any) -> BottleneckConfig:
    targets = ["blocks.0.outer", "blocks.1.outer"]
    return BottleneckConfig(
        target_modules=targets,
        residual_modules={target: target.replace("outer", "norm") for target in targets},
        placement=placement,
        width=3,
        **more,
    )


def peft_model(placement: str) -> tuple[Any, Any, torch.Tensor]:
    torch.manual_seed(0)
    blocks, x = Blocks(), torch.randn(5, 4)
    model = get_peft_model(blocks, config_of(placement))
    fill(model, "default", 1.0)
    return model, blocks, x


def fill(model: Any, name: str, value: float) -> None:
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if f".{name}." in path and "bottleneck_up" in path:
                parameter.fill_(value)
