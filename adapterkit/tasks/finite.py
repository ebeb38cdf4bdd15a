"""Answers that are no numbers: weights may be finite and so large that what they compute is not."""

# Axes: B rows of a batch, T tokens, N tokens that are answered.

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from adapterkit.errors import NotFiniteError
from adapterkit.tasks.values import Batch


def without_lost(logits: Tensor, batch: Batch, at_BT: Tensor | None = None) -> tuple[Tensor, list[int]]:
    """Logits (B, …), or (N, V) at the tokens of `at_BT`, with zeros where those of a feature are not finite; and the
    places of such features in the batch."""
    if math.isfinite(float(logits.sum())):  # nearly always, and the cheapest question
        return logits, []
    lost = ~torch.isfinite(logits)
    if at_BT is not None and logits.dim() == 2:
        rows = at_BT.nonzero()[:, 0][lost.any(-1)]
    else:
        mask = batch.inputs["attention_mask"]
        if logits.dim() == 3 and mask.shape == logits.shape[:2]:
            lost &= mask.bool()[..., None]  # what padding computes is nobody's answer
        rows = lost.flatten(1).any(1).nonzero()[:, 0]
    return logits.masked_fill(lost, 0.0), sorted(set(rows.tolist()))


def no_numbers(rows: Sequence[int], called: Mapping[int, str] | None = None) -> NotFiniteError:
    """The error for rows, by their places from 0, whose answers are not finite; `called`: whom they asked."""
    names = called or {}
    return NotFiniteError(
        f"{len(rows)} row{'s have' if len(rows) != 1 else ' has'} no answer: what the adapter computes is not finite",
        [f"row {place + 1}{f' ({names[place]})' if place in names else ''}" for place in sorted(rows)],
        "Its weights are too large for the number format: load the backbone in float32, or train the adapter again.",
    )
