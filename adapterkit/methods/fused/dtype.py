"""The number format that a linear computes in."""

import torch
from torch import Tensor


def product_dtype(x: Tensor, weight: Tensor) -> torch.dtype:
    """Autocast's format where that is on, else the weight's."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
