"""The head that pools by attention."""

from torch import nn

from adapterkit.heads.linear import Linear
from adapterkit.heads.pooling import AttentionPooling
from adapterkit.recipe import HeadSettings


class Attention(Linear):
    """The row of `attention`: one learned query weighs the tokens of a row, then linear."""

    pooled_only = True

    def pooling(self, width: int, settings: HeadSettings) -> nn.Module:
        return AttentionPooling(width)
