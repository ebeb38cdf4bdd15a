"""Bottlenecks as the parts of fusions, with random tensors, as if each had been trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from adapterkit.methods.attachment import Attachment
from adapterkit.methods.fusion.part import Part
from adapterkit.methods.table import attach
from adapterkit.recipe import BottleneckMethod, FusionMethod
from tests.methods.cases import attached, disturb

PLACEMENTS = ("houlsby", "pfeiffer", "parallel")
ACTIVATIONS = ("relu", "gelu", "tanh")


def settings_of(placement: str, count: int = 2, **more: Any) -> list[BottleneckMethod]:
    """Parts of different widths, activations and scales; the second one's scale is learned."""
    return [
        BottleneckMethod(
            placement=placement,  # type: ignore[arg-type]
            width=3 + number,
            activation=ACTIVATIONS[number],  # type: ignore[arg-type]
            scale=1.0 + number,
            scale_learned=number == 1,
            dropout=0.5,
            **more,
        )
        for number in range(count)
    ]


def parts_on(backbone: Any, settings: Sequence[BottleneckMethod], size: float = 0.2) -> list[Part]:
    """A part for each of the settings. Size 0: never trained."""
    parts = []
    for number, method in enumerate(settings):
        with attached(backbone, method, seed=number) as attachment:
            disturb(attachment, size, seed=10 + number)
            state = attachment.state()
        parts.append(Part(f"part{number}", f"{number:064d}", method, by_place(state)))
    return parts


def by_place(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """A bottleneck's tensors by the place where they stand."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        path, _, ending = name.rpartition(".bottleneck_")
        found.setdefault(path, {})[f"bottleneck_{ending}"] = tensor
    return found


def fusion_of(parts: Sequence[Part], **more: Any) -> FusionMethod:
    """The settings of a fusion of these parts."""
    return FusionMethod(parts=tuple(part.name for part in parts), **more)


@contextmanager
def fused(
    backbone: Any, parts: Sequence[Part], seed: int = 0, dtype: torch.dtype = torch.float32, **more: Any
) -> Iterator[Attachment]:
    """A fusion on the backbone's own trunk, taken off at the end."""
    settings = fusion_of(parts, **more)
    attachment = attach(backbone.trunk, backbone, settings, seed=seed, dtype=dtype, parts=parts)
    try:
        yield attachment
    finally:
        attachment.detach()
