"""The head with one hidden layer."""

import torch
from torch import Tensor, nn

from adapterkit.heads.own import OwnHead
from adapterkit.recipe import HeadSettings


class MlpHead(nn.Module):
    """logits = W₂·dropout(tanh(W₁·dropout(x) + b₁)) + b₂, as in RoBERTa's classification head (Liu et al. 2019)."""

    def __init__(self, width: int, classes: int, dropout: float, hidden: int | None) -> None:
        super().__init__()
        hidden = width if hidden is None else hidden
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(width, hidden)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, states: Tensor) -> Tensor:
        hidden = torch.tanh(self.dense(self.dropout(states)))
        logits: Tensor = self.classifier(self.dropout(hidden))
        return logits


class Mlp(OwnHead[HeadSettings]):
    """The row of `mlp`."""

    def output(self, width: int, classes: int, settings: HeadSettings) -> nn.Module:
        return MlpHead(width, classes, settings.dropout, settings.hidden)
