"""What a layer of a method is that no tuner of PEFT's makes."""

from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn


class WrappingLayer(nn.Module, BaseTunerLayer):
    """Wraps one module of the backbone, which `detach` puts back in its place.

    A method that merges has layers with a `merge` that folds them into copies of the wrapped module's tensors, sets
    these as `base_layer.….data`, and adds a name to `merged_adapters`; its forward then gives what the wrapped module
    gives. Taking it out again is not the layer's business: the original tensors are kept.

    Attributes:
        base_layer: the wrapped module.
        merged_adapters: names of what is folded in; empty where nothing is.
    """

    # Inherited from PEFT, which has no types; what nn.Module says of unknown attributes would hide them.
    get_base_layer: Any

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.merged_adapters: list[str] = []
