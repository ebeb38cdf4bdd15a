"""The table of heads, and the own ones in it: what everybody asks of a kind of head is asked here, by its settings."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adapterkit.heads.family import Family
from adapterkit.heads.headed import Head
from adapterkit.heads.own import OwnHead
from adapterkit.heads.pooling import AttentionPooling
from adapterkit.recipe import HeadSettings
from adapterkit.recipe.head import HEAD_SETTINGS


class LinearHead(nn.Module):
    """logits = W·dropout(x) + b."""

    def __init__(self, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, classes)

    def forward(self, states: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(states))
        return logits


class MlpHead(nn.Module):
    """logits = W₂·dropout(tanh(W₁·dropout(x) + b₁)) + b₂, as in RoBERTa's classification head (Liu et al. 2019)."""

    def __init__(self, width: int, classes: int, dropout: float, hidden: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(width, hidden)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, states: Tensor) -> Tensor:
        hidden = torch.tanh(self.dense(self.dropout(states)))
        logits: Tensor = self.classifier(self.dropout(hidden))
        return logits


class Linear(OwnHead[HeadSettings]):
    def output(self, width: int, classes: int, settings: HeadSettings) -> nn.Module:
        return LinearHead(width, classes, settings.dropout)


class Mlp(OwnHead[HeadSettings]):
    def output(self, width: int, classes: int, settings: HeadSettings) -> nn.Module:
        return MlpHead(width, classes, settings.dropout, settings.hidden or width)


class Attention(Linear):
    """One learned query weighs the tokens of a row, then linear."""

    pooled_only = True

    def pooling(self, width: int, settings: HeadSettings) -> nn.Module:
        return AttentionPooling(width)


HEADS: Mapping[str, Head[Any]] = {"family": Family(), "linear": Linear(), "mlp": Mlp(), "attention": Attention()}
"""Kind -> the head, of those that come with adapterkit."""


def head_of(settings: HeadSettings) -> Head[Any]:
    """The head that settings are of. Raises PluginError: another package brings it, and it cannot be used."""
    own = HEADS.get(settings.kind)
    found: Head[Any] = HEAD_SETTINGS.load(settings, Head) if own is None else own
    return found
