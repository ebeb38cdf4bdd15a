"""Read a method's tensors, as an artifact holds them, into what a host keeps of them.

Axes: I inputs, O outputs, R rank, D hidden width, M bottleneck width, Q query width.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from adapterkit.adapted import PREFIX
from adapterkit.backbone import Backbone
from adapterkit.backbone.sites import Sublayer
from adapterkit.errors import PluginError
from adapterkit.host.engine.assembly import Laid, Packed, affine, scaled_input
from adapterkit.host.engine.structure import BottleneckPiece, FusionPiece
from adapterkit.host.packing.lora import pack_lora
from adapterkit.host.packing.unpacked import Packer, Unpacked
from adapterkit.methods.fusion.part import Part, fusion_targets
from adapterkit.methods.lowest_layer import lowest_layers
from adapterkit.methods.rows.bottleneck import Bottleneck
from adapterkit.methods.rows.fusion import Fusion
from adapterkit.methods.rows.ia3 import FACTORS, Ia3, choose, scales_input
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
    """Read a method's tensors; arguments as for `Unpacked`, but for the names that they have in the artifact. None for
    the method `none`.

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
    method = given.settings
    targets = given.targets({site.path: site for site in choose(given.backbone.sites, method)})
    affines, scaled = [], []
    for path, (site, target) in targets.items():
        outputs, inputs = given.sizes(path)
        if scales_input(site, method):
            scaled.append(scaled_input(path, given.take(f"{target}.{FACTORS}", (1, inputs)).flatten()))
        else:
            affines.append(affine(path, given.take(f"{target}.{FACTORS}", (outputs, 1)).flatten()))
    return given.packed(Ia3.endings, [*affines, *scaled], lowest_layers(site for site, _ in targets.values()))


def pack_bottleneck(given: Unpacked[BottleneckMethod]) -> Packed:
    """Pack bottlenecks, with their scale inside."""
    method, hidden = given.settings, given.backbone.hidden_size
    chosen = given.backbone.sites.select_sublayers(method.sublayers, layers=method.layers, top=method.top)
    targets = given.targets({sublayer.output: sublayer for sublayer in chosen})
    width = method.width_for(hidden)
    sizes = ((width, hidden), (width,), (hidden, width), (hidden,), *((1,),) * method.scale_learned)
    laid = []
    for path, (sublayer, target) in targets.items():
        own = {end: given.take(f"{target}.{end}", size) for end, size in zip(Bottleneck.endings, sizes, strict=False)}
        reads = _read_beside(sublayer, method.placement)
        piece = BottleneckPiece(path, hidden, width, method.placement, method.activation, *reads)
        laid.append(Laid(piece, _network(own, method)))
    return given.packed(Bottleneck.endings, laid, lowest_layers(sublayer for sublayer, _ in targets.values()))


def pack_fusion(given: Unpacked[FusionMethod]) -> Packed:
    """Pack a fusion together with its parts: both are needed for every row, so both lie in one tensor.
    Raises ArtifactError: the tensors are not exactly those of the fusion where its parts stand; RecipeError: the parts
    do not fit each other."""
    method, parts, hidden = given.settings, given.parts, given.backbone.hidden_size
    width = method.query_width or hidden
    sizes = ((width, hidden), (width,), (width, hidden), *((hidden, hidden),) * method.value)
    targets = given.targets(fusion_targets(given.backbone.sites.sublayers, parts))
    placement = parts[0].settings.placement
    networks = tuple((part.settings.width_for(hidden), part.settings.activation) for part in parts)
    laid = []
    for path, (sublayer, target) in targets.items():
        reads = _read_beside(sublayer, placement)
        tensors = [tensor for part in parts for tensor in _network(part.tensors[path], part.settings)]
        tensors += [given.take(f"{target}.{end}", size) for end, size in zip(Fusion.endings, sizes, strict=False)]
        laid.append(Laid(FusionPiece(path, hidden, networks, width, method.value, placement, *reads), tensors))
    return given.packed(Fusion.endings, laid, lowest_layers(sublayer for sublayer, _ in targets.values()))


def _read_beside(sublayer: Sublayer, placement: str) -> tuple[str | None, str | None]:
    """Residual and norm of a piece at a sublayer."""
    return None if placement == "houlsby" else sublayer.residual, sublayer.norm if placement == "pfeiffer" else None


def _network(own: Mapping[str, Tensor], settings: BottleneckMethod) -> list[Tensor]:
    """W_down (M, D), b_down (M,), and W_up transposed with b_up as its last row (M + 1, D), both scaled."""
    scale: Any = own["bottleneck_scale"].float() if "bottleneck_scale" in own else settings.scale
    up_MD = torch.cat([own["bottleneck_up.weight"].float().T, own["bottleneck_up.bias"].float()[None]])
    return [own["bottleneck_down.weight"], own["bottleneck_down.bias"], scale * up_MD]


PACKERS: Mapping[str, Packer] = {
    "lora": pack_lora,
    "bottleneck": pack_bottleneck,
    "ia3": pack_ia3,
    "fusion": pack_fusion,
}
"""Kind of method -> what packs it. A method that attaches nothing needs none."""
