"""Read a fusion and its parts into what a host keeps of them.

Axes: D hidden width, Q query width, M bottleneck width.
"""

import torch
from torch import Tensor

from adapterkit.host.engine.assembly import Packed
from adapterkit.host.engine.structure import FusionPiece, Structure
from adapterkit.host.packing.tensor_reader import Reader, targets_of
from adapterkit.host.packing.unpacked import Unpacked
from adapterkit.methods.fusion.part import Part, fusion_targets
from adapterkit.methods.lowest_layer import lowest_layers
from adapterkit.methods.rows.fusion import Fusion
from adapterkit.recipe import FusionMethod


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
