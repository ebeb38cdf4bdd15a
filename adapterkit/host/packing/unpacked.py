"""A method's tensors as an artifact holds them: what a packer is given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor

from adapterkit.backbone import Backbone
from adapterkit.host.engine.assembly import Packed
from adapterkit.methods.fusion.part import Part
from adapterkit.recipe import MethodSettings

S = TypeVar("S", bound=MethodSettings)


@dataclass(frozen=True, eq=False)
class Unpacked(Generic[S]):
    """A method that is not packed yet.

    Attributes:
        settings: the artifact's.
        config: the content of its adapter_config.json; it says which modules the adapter's model holds.
        tensors: by path and ending in that model; those of the head may be among them.
        backbone: which the artifact fits.
        parts: of a fusion, in its order.
    """

    settings: S
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    backbone: Backbone
    parts: Sequence[Part] = ()


Packer = Callable[[Unpacked[Any]], Packed]
"""Raises ArtifactError and SiteError as `packers.pack`."""
