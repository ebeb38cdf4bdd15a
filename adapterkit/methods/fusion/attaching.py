"""Put a fusion's layers where its parts stand."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from adapterkit.backbone.sites import Sublayer
from adapterkit.methods.bottleneck.module_reader import read_modules
from adapterkit.methods.carrier import Carrier
from adapterkit.methods.fusion.layer import FusionLayer
from adapterkit.recipe import FusionMethod


def fusion_layers(
    carrier: Carrier, targets: Mapping[str, Sublayer], settings: FusionMethod
) -> tuple[dict[str, FusionLayer], dict[str, Any]]:
    """Replace the linears at the targets by fusion layers.

    Args:
        targets: sublayers by path in the model.

    Returns:
        The layers by path in the model, and what `adapter_config.json` says of them.
    """
    parts, module = carrier.parts, carrier.model.get_submodule
    placement = parts[0].settings.placement
    residuals, norms = read_modules(carrier.reach, targets, placement)
    paths = {id(sublayer): path for path, sublayer in targets.items()}
    width = settings.query_width or carrier.backbone.contract.hidden_size

    def make(linear: nn.Module, sublayer: Sublayer) -> FusionLayer:
        path = paths[id(sublayer)]
        return FusionLayer(
            linear,
            [(part.settings, part.tensors[sublayer.output]) for part in parts],
            query_width=width,
            value=settings.value,
            dropout=settings.dropout,
            residual=(residuals[path], module(residuals[path])) if path in residuals else None,
            norm=module(norms[path]) if path in norms else None,
        )

    layers = carrier.wrap(targets, make)
    content = {
        "target_modules": sorted(targets),
        "residual_modules": dict(sorted(residuals.items())),
        "norm_modules": dict(sorted(norms.items())),
        "placement": placement,
        "query_width": width,
        "value": settings.value,
        "dropout": settings.dropout,
        "inference_mode": True,
    }
    return layers, content
