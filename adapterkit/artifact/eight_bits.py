"""Matrices of eight bits in a safetensors file: whole numbers in lines, each with its scale before it, in one tensor.

Lines run along the longer side, so that there are few scales: of a LoRA one for each rank. A matrix (P, Q) with P ≤ Q
is stored as (P, 4 + Q), any other as (4 + P, Q); the four bytes are the scale in float32. Whoever reads such a tensor
as the matrix itself finds another shape, so no program takes the whole numbers for weights.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

SCALE_BYTES = 4
HIGHEST = 127


def matrix_shape(stored: Sequence[int]) -> tuple[int, int] | None:
    """The shape of the matrix that is stored with this shape; None where none is."""
    if len(stored) != 2:
        return None
    rows, columns = stored
    if 0 < rows <= columns - SCALE_BYTES:
        return rows, columns - SCALE_BYTES
    if 0 < columns < rows - SCALE_BYTES:
        return rows - SCALE_BYTES, columns
    return None


def stored_shape(matrix: Sequence[int]) -> tuple[int, int]:
    """The shape that a matrix of this shape is stored with."""
    rows, columns = matrix
    return (rows, columns + SCALE_BYTES) if rows <= columns else (rows + SCALE_BYTES, columns)


def encode(matrix: Tensor) -> Tensor:
    """A finite matrix (P, Q) as int8, stored as above. What `decode` gives of it is encoded to the same bytes again.

    A line's scale is its largest magnitude / 127, rounded up to 16 bits, so that no number is beyond 127 and
    number · scale is exact in float32.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    lines = (matrix if wide else matrix.T).float()
    exact = (lines.abs().amax(1) / HIGHEST).contiguous()
    scale = ((exact.view(torch.int32) + 0xFF) & ~0xFF).view(torch.float32)
    divisor = scale.where(scale > 0, torch.ones(()))[:, None]
    numbers = (lines / divisor).round().clamp(-HIGHEST, HIGHEST).to(torch.int8)
    stored = torch.cat([scale[:, None].view(torch.int8), numbers], 1)
    return stored if wide else stored.T.contiguous()


def decode(stored: Tensor) -> Tensor:
    """The matrix in float32 of what `encode` made."""
    shape = matrix_shape(stored.shape)
    assert shape is not None  # the header was checked
    wide = shape[0] <= shape[1]
    lines = stored if wide else stored.T
    scale = lines[:, :SCALE_BYTES].reshape(-1).clone().view(torch.float32)
    matrix = lines[:, SCALE_BYTES:].float() * scale[:, None]
    return matrix if wide else matrix.T.contiguous()
