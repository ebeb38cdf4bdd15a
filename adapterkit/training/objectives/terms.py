"""The formulas of objectives, on plain tensors.

Axes: B rows, T tokens, D hidden width, P width of the projection.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def supervised_contrastive(z_BP: Tensor, class_B: Tensor, temperature: float) -> Tensor:
    """L_out of Khosla et al. 2020 (eq. 2), over the anchors that have a positive; 0 where none has.

    L_i = -1/|P(i)| Σ_{p∈P(i)} log( exp(z_i·z_p / τ) / Σ_{a≠i} exp(z_i·z_a / τ) ), P(i) the other rows of i's class.

    Args:
        z_BP: unit vectors.
        class_B: their classes.
        temperature: τ.
    """
    itself_BB = torch.eye(len(z_BP), dtype=torch.bool, device=z_BP.device)
    logits_BB = (z_BP @ z_BP.T / temperature).masked_fill(itself_BB, float("-inf"))
    positive_BB = (class_B[:, None] == class_B[None]) & ~itself_BB
    count_B = positive_BB.sum(1)
    log_share_BB = F.log_softmax(logits_BB, dim=1).masked_fill(~positive_BB, 0.0)
    loss_B = -log_share_BB.sum(1) / count_B.clamp(min=1)
    return loss_B.sum() / (count_B > 0).sum().clamp(min=1)


def simcse(one_BP: Tensor, other_BP: Tensor, temperature: float) -> Tensor:
    """Each row finds its own second look among those of all (Gao et al. 2021, eq. 1): unit vectors, (B, P) each."""
    return F.cross_entropy(one_BP @ other_BP.T / temperature, torch.arange(len(one_BP), device=one_BP.device))


def distance(states_BTD: Tensor, frozen_BTD: Tensor, mask_BT: Tensor, measure: str) -> Tensor:
    """How far states are from the backbone's: the mean over a row's tokens, then over rows; padding never counts.
    `states_BTD`: of the adapted trunk. `frozen_BTD`: of the bare one. `mask_BT`: 1 for tokens, 0 for padding.
    `measure`: "squares": mean over D of (x - y)². "cosine": 1 - x·y / (‖x‖ ‖y‖)."""
    states_BTD, frozen_BTD = states_BTD.float(), frozen_BTD.float()
    if measure == "cosine":
        away_BT = 1 - F.cosine_similarity(states_BTD, frozen_BTD, dim=-1)
    else:
        away_BT = (states_BTD - frozen_BTD).square().mean(-1)
    weight_BT = mask_BT.to(away_BT.dtype)
    return ((away_BT * weight_BT).sum(1) / weight_BT.sum(1).clamp(min=1)).mean()
