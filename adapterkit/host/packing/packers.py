"""Read a method's tensors, as an artifact holds them, into what a host keeps of them.

Axes: I inputs, O outputs, R rank, D hidden width, M bottleneck width, Q query width.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from adapterkit.adapted import PREFIX
from adapterkit.backbone import Backbone
from adapterkit.errors import PluginError
from adapterkit.host.engine.assembly import Affine, Packed, PlacedBottleneck, Scaled, assemble
from adapterkit.host.engine.structure import FusionPiece, Structure
from adapterkit.host.packing.lora import pack_lora
from adapterkit.host.packing.tensor_reader import Reader, sizes_of, targets_of
from adapterkit.host.packing.unpacked import Packer, Unpacked
from adapterkit.methods.fusion.part import Part, fusion_targets
from adapterkit.methods.ia3.choosing import choose, scales_input
from adapterkit.methods.lowest_layer import lowest_layers
from adapterkit.methods.rows.bottleneck import Bottleneck
from adapterkit.methods.rows.fusion import Fusion
from adapterkit.methods.rows.ia3 import Ia3
from adapterkit.recipe import BottleneckMethod, FusionMethod, Ia3Method, MethodSettings
from adapterkit.recipe.methods import METHOD_SETTINGS

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
        PluginError: another package brings the method, and nothing that packs it.
        SiteError: the method names sites that the backbone does not have; or it needs the backbone's weights (DoRA,
            trained biases) while another adapter that is being trained may have changed them.
    """
    if not method.attaches:
        return None
    names = {name.removeprefix(PREFIX): tensor for name, tensor in state.items()}
    return _packer(method)(Unpacked(method, config, names, backbone, parts))


def _packer(method: MethodSettings) -> Packer:
    own = PACKERS.get(method.kind)
    if own is not None:
        return own
    if not method.packer:
        told = [f"{type(method).__name__}.packer: its package, {METHOD_SETTINGS.package(method.kind)}, names none"]
        raise PluginError(f"a host cannot mount the method {method.kind!r}", told, "Answer with it by ak.load.")
    packer: Packer = METHOD_SETTINGS.load(method, Callable, "packer")  # type: ignore[arg-type]
    return packer


def pack_ia3(given: Unpacked[Ia3Method]) -> Packed:
    """Pack factors: of outputs as gains, of inputs as such."""
    method, backbone = given.settings, given.backbone
    targets = targets_of(given.config, {site.path: site for site in choose(backbone.sites, method)})
    reader = Reader(given.tensors)
    affines, scaled = [], []
    for path, (site, target) in targets.items():
        outputs, inputs = sizes_of(backbone, path)
        if scales_input(site, method):
            scaled.append(Scaled(path, reader.take(f"{target}.ia3_l", (1, inputs)).flatten()))
        else:
            affines.append(Affine(path, reader.take(f"{target}.ia3_l", (outputs, 1)).flatten(), None))
    reader.finish(Ia3.endings)
    lowest = lowest_layers(site for site, _ in targets.values())
    return reader.checked(assemble(backbone, affines=affines, scaled=scaled, lowest_layer=lowest))


def pack_bottleneck(given: Unpacked[BottleneckMethod]) -> Packed:
    """Pack bottlenecks, with their scale inside."""
    method, backbone = given.settings, given.backbone
    chosen = backbone.sites.select_sublayers(method.sublayers, layers=method.layers, top=method.top)
    targets = targets_of(given.config, {sublayer.output: sublayer for sublayer in chosen})
    reader = Reader(given.tensors)
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
        necks.append(PlacedBottleneck(sublayer, method.placement, method.activation, down_MD, down_M, up_DM, up_D))
    reader.finish(Bottleneck.endings)
    return reader.checked(assemble(backbone, bottlenecks=necks))


def pack_fusion(given: Unpacked[FusionMethod]) -> Packed:
    """Pack a fusion together with its parts: both are needed for every row, so both lie in one tensor.
    Raises ArtifactError: the tensors are not exactly those of the fusion where its parts stand; RecipeError: the parts
    do not fit each other."""
    method, parts, backbone = given.settings, given.parts, given.backbone
    hidden = backbone.hidden_size
    width = method.query_width or hidden
    sizes = ((width, hidden), (width,), (width, hidden), *((hidden, hidden),) * method.value)
    targets = targets_of(given.config, fusion_targets(backbone.sites.sublayers, parts))
    placement = parts[0].settings.placement
    reader = Reader(given.tensors)
    pieces: list[FusionPiece] = []
    tensors: list[Tensor] = []
    for path, (sublayer, target) in targets.items():
        pieces.append(
            FusionPiece(
                path,
                hidden,
                tuple((part.settings.width_for(hidden), part.settings.activation) for part in parts),
                width,
                method.value,
                placement,
                residual=None if placement == "houlsby" else sublayer.residual,
                norm=sublayer.norm if placement == "pfeiffer" else None,
            )
        )
        for part in parts:
            tensors += _bottleneck(part, path)
        tensors += [reader.take(f"{target}.{end}", size) for end, size in zip(Fusion.endings, sizes, strict=False)]
    reader.finish(Fusion.endings)
    flat = torch.cat([tensor.to(backbone.device, backbone.dtype).flatten() for tensor in tensors])
    lowest = lowest_layers(sublayer for sublayer, _ in targets.values())
    return reader.checked(Packed(Structure.of(pieces), flat, lowest, flat.numel() * flat.element_size()))


def _bottleneck(part: Part, path: str) -> list[Tensor]:
    """W_down (M, D), b_down (M,), and W_up transposed with b_up as its last row (M + 1, D), both scaled."""
    own = {ending: tensor.float() for ending, tensor in part.tensors[path].items()}
    scale = own.get("bottleneck_scale", part.settings.scale)
    up_MD = torch.cat([own["bottleneck_up.weight"].T, own["bottleneck_up.bias"][None]])
    return [own["bottleneck_down.weight"], own["bottleneck_down.bias"], scale * up_MD]


PACKERS: Mapping[str, Packer] = {
    "lora": pack_lora,
    "bottleneck": pack_bottleneck,
    "ia3": pack_ia3,
    "fusion": pack_fusion,
}
"""Kind of method -> what packs it. A method that attaches nothing needs none."""
