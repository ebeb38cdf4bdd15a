"""Put a fusion's layers where its parts stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from adapterkit.backbone.sites import Sublayer
from adapterkit.errors import SiteError
from adapterkit.methods.fusion.layer import FusionLayer
from adapterkit.methods.fusion.part import Part, check_parts
from adapterkit.methods.reach import Reach
from adapterkit.recipe import FusionMethod


def fusion_targets(sublayers: Sequence[Sublayer], parts: Sequence[Part]) -> dict[str, Sublayer]:
    """The sublayers at which the parts stand, by the trunk path of their linear.

    Raises:
        RecipeError: the parts cannot be fused with each other.
        SiteError: a sublayer that this backbone does not have.
    """
    check_parts(parts)
    known = {sublayer.output: sublayer for sublayer in sublayers}
    strange = sorted(set(parts[0].tensors) - set(known))
    if strange:
        raise SiteError(
            "the parts stand at sublayers that this backbone does not have",
            [f"{path}: no sublayer ends there" for path in strange[:8]],
            "Take parts that were trained on this backbone.",
        )
    return {path: sublayer for path, sublayer in known.items() if path in parts[0].tensors}


def fusion_layers(
    model: nn.Module,
    targets: Mapping[str, Sublayer],
    parts: Sequence[Part],
    settings: FusionMethod,
    reach: Reach,
    dtype: torch.dtype,
) -> tuple[dict[str, FusionLayer], dict[str, Any]]:
    """Replace the linears at the targets by fusion layers.

    Args:
        targets: sublayers by path in the model.
        reach: the model's view of the trunk.
        dtype: of the fusion's and the parts' tensors.

    Returns:
        The layers by path in the model, and what `adapter_config.json` says of them.
    """
    layers: dict[str, FusionLayer] = {}
    residuals: dict[str, str] = {}
    norms: dict[str, str] = {}
    placement = parts[0].settings.placement
    width = 0
    for path, sublayer in targets.items():
        residual, norm = reach.path(sublayer.residual), sublayer.norm and reach.path(sublayer.norm)
        if placement != "houlsby" and residual is not None:
            residuals[path] = residual
        if placement == "pfeiffer" and norm is not None:
            norms[path] = norm
        parent_path, _, name = path.rpartition(".")
        parent, linear = model.get_submodule(parent_path), model.get_submodule(path)
        at = [(part.settings, part.tensors[sublayer.output]) for part in parts]
        width = settings.query_width or at[0][1]["bottleneck_down.weight"].shape[1]
        layer = FusionLayer(
            linear,
            at,
            query_width=width,
            value=settings.value,
            dropout=settings.dropout,
            residual=(residuals[path], model.get_submodule(residuals[path])) if path in residuals else None,
            norm=model.get_submodule(norms[path]) if path in norms else None,
        )
        device = next(linear.parameters()).device
        for child_name, child in layer.named_children():
            if child_name != "base_layer":
                child.to(device, dtype).eval()
        setattr(parent, name, layer)
        layers[path] = layer
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
