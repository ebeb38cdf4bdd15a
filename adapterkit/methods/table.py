"""The table of methods: what everybody asks of a method is asked here, by its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from adapterkit.backbone import Backbone
from adapterkit.methods.fusion.part import Part
from adapterkit.methods.protocol import Method
from adapterkit.methods.rows.bottleneck import Bottleneck
from adapterkit.methods.rows.fusion import Fusion
from adapterkit.methods.rows.ia3 import Ia3
from adapterkit.methods.rows.lora import Lora
from adapterkit.methods.rows.none import Nothing
from adapterkit.recipe import MethodSettings
from adapterkit.recipe.methods import METHOD_SETTINGS

if TYPE_CHECKING:
    from adapterkit.methods.attachment import Attachment

METHODS: Mapping[str, Method[Any]] = {
    "lora": Lora(),
    "bottleneck": Bottleneck(),
    "ia3": Ia3(),
    "fusion": Fusion(),
    "none": Nothing(),
}
"""Kind -> the method, of those that come with adapterkit."""


def method_of(settings: MethodSettings) -> Method[Any]:
    """The method that settings are of. Raises PluginError: another package brings it, and it cannot be used."""
    own = METHODS.get(settings.kind)
    found: Method[Any] = METHOD_SETTINGS.load(settings, Method) if own is None else own
    return found


def attach(
    model: nn.Module,
    backbone: Backbone,
    settings: MethodSettings,
    *,
    seed: int,
    dtype: torch.dtype = torch.float32,
    parts: Sequence[Part] = (),
) -> Attachment:
    """Attach a method to a model. The adapter is in eval mode; nothing outside the trunk changes whether it is trained.
    Raises as `Method.attach`.

    Args:
        model: holds modules of the backbone's trunk, the very objects, and possibly a head.
        seed: of the initialisation; the global random generators are left as they were.
        dtype: of the adapter's tensors, whatever the backbone's.
        parts: of a fusion.
    """
    from adapterkit.methods.carrier import Carrier

    return method_of(settings).attach(Carrier(model, backbone, seed, dtype, parts), settings)
