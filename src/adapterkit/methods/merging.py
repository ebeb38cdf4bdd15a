"""Fold LoRA layers into the weights below them, and take them out again without leaving a trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from adapterkit.errors import MergeError


class Merge:
    """LoRA layers folded into their weights, and the untouched originals.

    PEFT's own unmerging subtracts what was added, which rounds; this puts the very tensors back.
    """

    def __init__(self, layers: Mapping[str, Any]) -> None:
        """Fold every layer into its weight.

        Raises:
            MergeError: values that are not finite; nothing is folded then.
        """
        self._originals: list[tuple[Any, nn.Parameter, Tensor]] = []
        broken = []
        for path, layer in layers.items():
            weight = layer.get_base_layer().weight
            self._originals.append((layer, weight, weight.data))
            try:
                # The safe way works on a copy, so the original tensor stays as it is.
                layer.merge(safe_merge=True)
            except ValueError as error:
                broken.append(f"{path}: {error}")
        if broken:
            self.undo()
            raise MergeError("the adapter cannot be merged", broken, "Train it again, or load another artifact.")

    def undo(self) -> None:
        """Put the original weights back, bit for bit."""
        for layer, weight, data in self._originals:
            if layer.merged:
                layer.unmerge()
            layer.get_base_layer().weight = weight
            weight.data = data
        self._originals.clear()
