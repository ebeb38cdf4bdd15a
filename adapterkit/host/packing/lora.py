"""Read a LoRA's tensors into what a host keeps of them.

Axes: I inputs, O outputs, R rank.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from adapterkit.artifact.tensors import all_finite
from adapterkit.backbone import Backbone
from adapterkit.backbone.quantisation import plain_weight
from adapterkit.backbone.sites import Site
from adapterkit.errors import ArtifactError
from adapterkit.host.engine.assembly import Affine, Packed, Update, assemble
from adapterkit.host.packing.permutation import Layout, Permutation, Slab
from adapterkit.host.packing.tensor_reader import REFUSED, REMEDY, Reader, sizes_of, targets_of
from adapterkit.host.packing.unpacked import Unpacked
from adapterkit.methods.lora.choosing import choose, pattern_value, scaling_of
from adapterkit.methods.lora.moved_weight import is_transposed
from adapterkit.methods.lowest_layer import BELOW_ALL_LAYERS, lowest_layers
from adapterkit.methods.reach import check_bare, is_wrapped
from adapterkit.methods.rows.lora import Lora
from adapterkit.recipe import LoraMethod

_Known = dict[tuple[str, tuple[str, ...], Layout], Permutation]
_KNOWN: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()
_MOST_KNOWN = 16


def pack_lora(given: Unpacked[LoraMethod]) -> Packed:
    """Pack a LoRA. What was packed once from files with this layout is packed in one gather from then on."""
    method, config, names, backbone = given.settings, given.config, given.tensors, given.backbone
    # Magnitudes and biases are packed with the backbone's weights, and not only moved.
    memory = None if method.dora or method.bias != "none" else Slab.of(names)
    if memory is None:
        return _pack_by_tensor(method, config, names, backbone)
    known = _KNOWN.setdefault(backbone.trunk, {})
    key = method.model_dump_json(), tuple(map(str, config.get("target_modules") or ())), memory.layout
    permutation = known.get(key)
    if permutation is not None:
        packed = permutation.pack(memory.whole, backbone.device, backbone.dtype)
        return packed if all_finite(packed.flat) else _pack_by_tensor(method, config, names, backbone)
    packed = _pack_by_tensor(method, config, names, backbone)
    if len(known) >= _MOST_KNOWN:
        known.clear()
    counted = memory.places()
    known[key] = Permutation.of(
        packed,
        [
            Update(
                own.site, counted[f"{own.target}.lora_A.weight"], counted[f"{own.target}.lora_B.weight"], own.scaling
            )
            for own in _lora_targets(method, config, backbone)
        ],
    )
    return packed


def _pack_by_tensor(
    method: LoraMethod, config: Mapping[str, Any], names: Mapping[str, Tensor], backbone: Backbone
) -> Packed:
    reader = Reader(names)
    targets_found = _lora_targets(method, config, backbone)
    found: dict[str, tuple[Tensor, Tensor, Tensor | None]] = {}
    for own in targets_found:
        a_RI = reader.take(f"{own.target}.lora_A.weight", (own.rank, own.inputs))
        b_OR = reader.take(f"{own.target}.lora_B.weight", (own.outputs, own.rank))
        magnitude_O = reader.take(f"{own.target}.lora_magnitude_vector", (own.outputs,)) if method.dora else None
        found[own.site.path] = a_RI, b_OR, magnitude_O
    targets = {own.site.path: (own.site, own.target) for own in targets_found}
    biases = _take_biases(method, backbone, targets, reader)
    if method.bias != "none" and not biases:
        raise ArtifactError(REFUSED, [f"method.bias: found {method.bias}, and there are none there"], REMEDY)
    reader.finish(Lora.endings)
    if method.dora or biases:
        check_bare(
            backbone.trunk,
            "this adapter is packed with the backbone's weights, and another adapter is attached to them",
            "Detach the other adapter first, or load the backbone twice.",
        )
    updates: list[Update] = []
    affines: list[Affine] = []
    for own, (path, (a_RI, b_OR, magnitude_O)) in zip(targets_found, found.items(), strict=True):
        scaling = own.scaling
        if magnitude_O is not None:
            b_OR, scaling = scaling * b_OR.float(), 1.0
            gain_O = _gain(backbone.trunk.get_submodule(path), a_RI.float(), b_OR, magnitude_O.float())
            affines.append(Affine(path, gain_O, _shift(backbone.trunk, path, gain_O, biases.pop(path, None))))
            b_OR = gain_O[:, None] * b_OR
        updates.append(Update(own.site, a_RI, b_OR, scaling))
    affines += [Affine(path, None, _shift(backbone.trunk, path, None, bias)) for path, bias in biases.items()]
    lowest = lowest_layers(update.site for update in updates)
    if method.bias == "all":
        lowest = dict.fromkeys(lowest, BELOW_ALL_LAYERS)
    return reader.checked(assemble(backbone, updates, affines, lowest_layer=lowest))


@dataclass(frozen=True)
class _Target:
    """A linear that a LoRA updates: its site in the trunk, its path in the adapter's model, the rank of the saved
    tensors, its widths, and what b · a is multiplied by."""

    site: Site
    target: str
    rank: int
    outputs: int
    inputs: int
    scaling: float


def _lora_targets(method: LoraMethod, config: Mapping[str, Any], backbone: Backbone) -> tuple[_Target, ...]:
    """Where a LoRA stands. Raises SiteError and ArtifactError as `pack`."""
    chosen = {site.path: site for site in choose(backbone.sites, method)}
    halves = 2 if method.moves_weight else 1
    return tuple(
        _Target(
            site,
            target,
            halves * pattern_value(method.rank_pattern, site, method.rank),
            *sizes_of(backbone, path),
            scaling_of(method, site),
        )
        for path, (site, target) in targets_of(config, chosen).items()
    )


def _gain(linear: nn.Module, a_RI: Tensor, b_OR: Tensor, magnitude_O: Tensor) -> Tensor:
    """magnitude / ‖W + b·a‖ for every output (Liu et al. 2024, eq. 5)."""
    weight = plain_weight(linear).detach().float().cpu()
    weight_OI = weight.T if is_transposed(linear) else weight
    norm_O: Tensor = torch.linalg.norm(weight_OI + b_OR @ a_RI, dim=1)
    return magnitude_O / norm_O


def _shift(trunk: nn.Module, path: str, gain_O: Tensor | None, bias_O: Tensor | None) -> Tensor | None:
    """What is added so that the module's own bias counts once, ungained, and a trained one takes its place."""
    own: Any = getattr(trunk.get_submodule(path), "bias", None)
    if own is None:
        return None
    own_O: Tensor = own.detach().float().cpu()
    new_O: Tensor = own_O if bias_O is None else bias_O.float()
    return new_O - (own_O if gain_O is None else gain_O * own_O)


def _take_biases(
    method: LoraMethod, backbone: Backbone, targets: Mapping[str, tuple[Site, str]], reader: Reader
) -> dict[str, Tensor]:
    """Trained biases by the path of their module in the trunk."""
    if method.bias == "none":
        return {}
    modules = {
        path: module
        for path, module in backbone.trunk.named_modules()
        if isinstance(getattr(module, "bias", None), nn.Parameter) and not is_wrapped(module)
    }
    if method.bias == "lora_only":
        wanted = {path: target for path, (_, target) in targets.items() if path in modules}
        return {path: reader.take(f"{target}.base_layer.bias", _bias(modules[path])) for path, target in wanted.items()}
    path, (_, target) = next(iter(targets.items()))
    prefix = target[: len(target) - len(path)]
    found: dict[str, Tensor] = {}
    held = {site.side for site, _ in targets.values()}
    stacked = tuple(
        f"{site.path}." for site in backbone.sites.sites if site.name == "layer.output" and site.side in held
    )
    for path, module in modules.items():
        # Beside an adapter a module's own bias has the name that PEFT's wrapper gives it.
        name = f"{prefix}{path}.base_layer.bias" if path in targets else f"{prefix}{path}.bias"
        # A module that is saved whole is a head's.
        if f"{prefix}{path}.weight" in reader.names:
            continue
        if name in reader.names or path.startswith(stacked):
            found[path] = reader.take(name, _bias(module))
    return found


def _bias(module: Any) -> tuple[int, ...]:
    return tuple(module.bias.shape)
