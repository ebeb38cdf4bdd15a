"""Read a method's tensors, as an artifact holds them, into what a host keeps of them.

Axes: I inputs, O outputs, R rank, D hidden width, M bottleneck width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from adapterkit.adapted import PREFIX
from adapterkit.backbone import Backbone
from adapterkit.host.engine.assembly import Affine, Bottleneck, Packed, Scaled, assemble
from adapterkit.host.packing.fusion import pack_fusion
from adapterkit.host.packing.lora import pack_lora
from adapterkit.host.packing.tensor_reader import Reader, sizes_of, targets_of
from adapterkit.methods import ia3
from adapterkit.methods.fusion import Part
from adapterkit.methods.reach import lowest_layers
from adapterkit.recipe import BottleneckMethod, Ia3Method, MethodSettings

__all__ = ["Packed", "pack"]


def pack(
    method: MethodSettings,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    backbone: Backbone,
    parts: Sequence[Part] = (),
) -> Packed | None:
    """Read a method's tensors.

    Args:
        method: the artifact's.
        config: the content of its adapter_config.json; it says which modules the adapter's model holds.
        state: the artifact's tensors by name; those of the head are passed over.
        backbone: which the artifact fits.
        parts: of a fusion.

    Returns:
        None for the method `none`.

    Raises:
        ArtifactError: the tensors are not exactly those of the method at the backbone's sites; lists every difference.
        SiteError: the method names sites that the backbone does not have; or it needs the backbone's weights (DoRA,
            trained biases) while another adapter that is being trained may have changed them.
    """
    if method.kind == "none":
        return None
    names = {name.removeprefix(PREFIX): tensor for name, tensor in state.items()}
    given: Any = method
    if method.kind == "lora":
        return pack_lora(given, config, names, backbone)
    if method.kind == "ia3":
        return _pack_ia3(given, config, names, backbone)
    if method.kind == "fusion":
        return pack_fusion(given, names, parts, backbone)
    return _pack_bottleneck(given, config, names, backbone)


def _pack_ia3(method: Ia3Method, config: Mapping[str, Any], names: Mapping[str, Tensor], backbone: Backbone) -> Packed:
    targets = targets_of(config, {site.path: site for site in ia3.choose(backbone.sites, method)})
    reader = Reader(names)
    affines, scaled = [], []
    for path, (site, target) in targets.items():
        outputs, inputs = sizes_of(backbone, path)
        if ia3.scales_input(site, method):
            scaled.append(Scaled(path, reader.take(f"{target}.ia3_l", (1, inputs)).flatten()))
        else:
            affines.append(Affine(path, reader.take(f"{target}.ia3_l", (outputs, 1)).flatten(), None))
    reader.finish(ending=(".ia3_l",))
    lowest = lowest_layers(site for site, _ in targets.values())
    return reader.checked(assemble(backbone, affines=affines, scaled=scaled, lowest_layer=lowest))


def _pack_bottleneck(
    method: BottleneckMethod, config: Mapping[str, Any], names: Mapping[str, Tensor], backbone: Backbone
) -> Packed:
    chosen = backbone.sites.select_sublayers(method.sublayers, layers=method.layers, top=method.top)
    targets = targets_of(config, {sublayer.output: sublayer for sublayer in chosen})
    reader = Reader(names)
    hidden, width = backbone.hidden_size, method.width_for(backbone.hidden_size)
    necks = []
    for sublayer, target in targets.values():
        down_MD = reader.take(f"{target}.bottleneck_down.weight", (width, hidden))
        down_M = reader.take(f"{target}.bottleneck_down.bias", (width,))
        up_DM = reader.take(f"{target}.bottleneck_up.weight", (hidden, width))
        up_D = reader.take(f"{target}.bottleneck_up.bias", (hidden,))
        learned = reader.take(f"{target}.bottleneck_scale", (1,)) if method.scale_learned else None
        scale: Any = method.scale if learned is None else learned.float()
        up_DM, up_D = scale * up_DM.float(), scale * up_D.float()
        necks.append(Bottleneck(sublayer, method.placement, method.activation, down_MD, down_M, up_DM, up_D))
    reader.finish(
        ending=(
            ".bottleneck_down.weight",
            ".bottleneck_down.bias",
            ".bottleneck_up.weight",
            ".bottleneck_up.bias",
            ".bottleneck_scale",
        ),
    )
    return reader.checked(assemble(backbone, bottlenecks=necks))
