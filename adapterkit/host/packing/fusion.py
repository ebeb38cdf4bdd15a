"""Read a fusion and its parts into what a host keeps of them.

Axes: D hidden width, Q query width, M bottleneck width.
"""

import torch
from torch import Tensor

from adapterkit.errors import ArtifactError
from adapterkit.host.engine.assembly import Packed
from adapterkit.host.engine.structure import FusionPiece, Structure
from adapterkit.host.packing.unpacked import Unpacked
from adapterkit.methods.fusion.part import Part, fusion_targets
from adapterkit.methods.lowest_layer import lowest_layers
from adapterkit.recipe import FusionMethod

ENDINGS = ("fusion_query.weight", "fusion_query.bias", "fusion_key.weight", "fusion_value.weight")


def pack_fusion(given: Unpacked[FusionMethod]) -> Packed:
    """Pack a fusion together with its parts: both are needed for every row, so both lie in one tensor.
    Raises ArtifactError: the tensors are not exactly those of the fusion where its parts stand; RecipeError: the parts
    do not fit each other."""
    method, names, parts, backbone = given.settings, given.tensors, given.parts, given.backbone
    hidden = backbone.hidden_size
    width = method.query_width or hidden
    shapes = dict(zip(ENDINGS, ((width, hidden), (width,), (width, hidden), (hidden, hidden)), strict=True))
    if not method.value:
        del shapes[ENDINGS[-1]]
    at: dict[str, dict[str, Tensor]] = {}
    problems = []
    sublayers = fusion_targets(backbone.sites.sublayers, parts)
    for name, tensor in sorted(names.items()):
        ending = next((known for known in ENDINGS if name.endswith(f".{known}")), None)
        if ending is None:
            continue  # the head's
        target = name.removesuffix(f".{ending}")
        path = max((path for path in sublayers if f".{target}".endswith(f".{path}")), key=len, default=None)
        if path is None or ending not in shapes:
            problems.append(f"{name}: not a tensor of this fusion on this backbone")
        elif tuple(tensor.shape) != shapes[ending]:
            problems.append(f"{name}: shape {tuple(tensor.shape)}, expected {shapes[ending]}")
        else:
            at.setdefault(path, {})[ending] = tensor
    # A model may hold only one side of the trunk, and then all sublayers of it.
    held = {sublayers[path].side for path in at}
    expected = [path for path, sublayer in sublayers.items() if sublayer.side in held or not held]
    problems += [
        f"{path}.{ending}: missing" for path in expected for ending in shapes if ending not in at.get(path, {})
    ]
    if problems:
        raise ArtifactError("these tensors are not those of the fusion on this backbone", problems)
    pieces: list[FusionPiece] = []
    tensors: list[Tensor] = []
    for path in expected:
        sublayer, placement = sublayers[path], parts[0].settings.placement
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
        tensors += [at[path][ending] for ending in shapes]
    flat = torch.cat([tensor.to(backbone.device, backbone.dtype).flatten() for tensor in tensors])
    lowest = lowest_layers(sublayers[path] for path in expected)
    return Packed(Structure.of(pieces), flat, lowest, flat.numel() * flat.element_size())


def _bottleneck(part: Part, path: str) -> list[Tensor]:
    """W_down (M, D), b_down (M,), and W_up transposed with b_up as its last row (M + 1, D), both scaled."""
    own = {ending: tensor.float() for ending, tensor in part.tensors[path].items()}
    scale = own.get("bottleneck_scale", part.settings.scale)
    up_MD = torch.cat([own["bottleneck_up.weight"].T, own["bottleneck_up.bias"][None]])
    return [own["bottleneck_down.weight"], own["bottleneck_down.bias"], scale * up_MD]
