"""From one state per token to one state per row.

Axes: B rows, T tokens, D hidden width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pool(states_BTD: Tensor, mask_BT: Tensor, pooling: str) -> Tensor:
    """Pool token states to row states, (B, D). Padding (mask 0) never counts.

    Args:
        states_BTD: token states.
        mask_BT: 1 for tokens, 0 for padding.
        pooling: "mean", "first" or "last" token that is not padding.
    """
    if pooling == "mean":
        weight_BT1 = mask_BT.unsqueeze(-1).to(states_BTD.dtype)
        return (states_BTD * weight_BT1).sum(1) / weight_BT1.sum(1).clamp(min=1.0)
    positions_BT = torch.arange(mask_BT.shape[1], device=mask_BT.device).expand_as(mask_BT)
    if pooling == "first":
        index_B = positions_BT.masked_fill(mask_BT == 0, mask_BT.shape[1] - 1).amin(1)
    else:
        index_B = positions_BT.masked_fill(mask_BT == 0, 0).amax(1)
    return states_BTD[torch.arange(states_BTD.shape[0], device=states_BTD.device), index_B]
