"""Whether named tensors are those that are due: an adapter's, whoever reads them."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def all_finite(tensor: Tensor) -> bool:
    """Whether no value is an infinity or a NaN: a NaN anywhere is both the lowest and the highest."""
    return all(math.isfinite(end) for end in torch.aminmax(tensor))


def misfits(found: Mapping[str, Tensor], due: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Which tensors are missing, or have another shape than is due, or values that are not finite."""
    problems = []
    for name, shape in due.items():
        tensor = found.get(name)
        if tensor is None:
            problems.append(f"{name}: missing")
        elif tensor.shape != shape:
            problems.append(f"{name}: shape {tuple(tensor.shape)}, expected {shape}")
        elif not all_finite(tensor):
            problems.append(f"{name}: holds values that are not finite")
    return problems
