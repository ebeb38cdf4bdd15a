"""Fold layers into the weights below them, and take them out again without leaving a trace."""

from collections.abc import Mapping
from typing import Any

from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from adapterkit.backbone.quantisation import is_plain
from adapterkit.errors import MergeError


class Merge:
    """Layers folded into their weights and biases, and the untouched originals.

    PEFT's own unmerging subtracts or divides, which rounds; this puts the very tensors back.
    """

    def __init__(self, layers: Mapping[str, Any]) -> None:
        """Fold every layer into its weight.
        Raises MergeError: values that are not finite, or quantised weights; nothing is folded then."""
        narrow = [path for path, layer in layers.items() if not is_plain(layer.get_base_layer())]
        if narrow:
            raise MergeError(
                "the adapter cannot be merged into quantised weights, which would round it away",
                [f"{path}: quantised" for path in narrow[:4]],
                "Load the backbone in float32 or bfloat16.",
            )
        self._originals: list[tuple[Any, str, nn.Parameter, Tensor]] = []
        broken = []
        for path, layer in layers.items():
            for name, own in layer.get_base_layer().named_parameters(recurse=False):
                self._originals.append((layer, name, own, own.data))
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
        for layer, name, own, data in self._originals:
            if isinstance(layer, LoraLayer) and layer.merged:
                layer.unmerge()  # it lets go of what it has computed for DoRA
            layer.merged_adapters.clear()  # IA3's unmerging would divide, with a warning
            setattr(layer.get_base_layer(), name, own)
            own.data = data
        self._originals.clear()
