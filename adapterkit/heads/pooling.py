"""From one state per token to one state per row.

Axes: B rows, T tokens, D hidden width.
"""

import torch
from torch import Tensor, nn


def pool(states_BTD: Tensor, mask_BT: Tensor, pooling: str) -> Tensor:
    """Pool token states to row states, (B, D). Padding (mask 0) never counts. `states_BTD`: token states. `mask_BT`: 1
    for tokens, 0 for padding. `pooling`: "mean", "first" or "last" token that is not padding."""
    if pooling == "mean":
        weight_BT1 = mask_BT.unsqueeze(-1).to(states_BTD.dtype)
        return (states_BTD * weight_BT1).sum(1) / weight_BT1.sum(1).clamp(min=1.0)
    positions_BT = torch.arange(mask_BT.shape[1], device=mask_BT.device).expand_as(mask_BT)
    if pooling == "first":
        index_B = positions_BT.masked_fill(mask_BT == 0, mask_BT.shape[1] - 1).amin(1)
    else:
        index_B = positions_BT.masked_fill(mask_BT == 0, 0).amax(1)
    return states_BTD[torch.arange(states_BTD.shape[0], device=states_BTD.device), index_B]


class FixedPooling(nn.Module):
    """`pool` as a module: "mean", "first" or "last"."""

    def __init__(self, pooling: str) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, states_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        return pool(states_BTD, mask_BT, self.pooling)


class AttentionPooling(nn.Module):
    """One learned query looks at all tokens: row = Σ_t softmax_t(q·x_t / √D) x_t (Yang et al. 2016, eq. 8–10)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, states_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        score_BT = self.score(states_BTD).squeeze(-1) / states_BTD.shape[-1] ** 0.5
        weight_BT = score_BT.masked_fill(mask_BT == 0, torch.finfo(score_BT.dtype).min).softmax(-1)
        return torch.einsum("bt,btd->bd", weight_BT, states_BTD)
