"""The linear head."""

from torch import Tensor, nn

from adapterkit.heads.own import OwnHead
from adapterkit.recipe import HeadSettings


class LinearHead(nn.Module):
    """logits = W·dropout(x) + b."""

    def __init__(self, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, classes)

    def forward(self, states: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(states))
        return logits


class Linear(OwnHead[HeadSettings]):
    """The row of `linear`."""

    def output(self, width: int, classes: int, settings: HeadSettings) -> nn.Module:
        return LinearHead(width, classes, settings.dropout)
