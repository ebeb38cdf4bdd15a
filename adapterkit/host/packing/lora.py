"""Pack a LoRA.

Axes: I inputs, O outputs, R rank.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from adapterkit.backbone.named_tensors import all_finite
from adapterkit.backbone.quantisation import plain_weight
from adapterkit.backbone.sites import LAYER_OUTPUT
from adapterkit.host.engine.assembly import Laid, Packed, Update, affine, low_rank
from adapterkit.host.packing.permutation import Layout, Permutation, Slab
from adapterkit.host.packing.unpacked import Unpacked, refused
from adapterkit.methods.lora.choosing import choose, pattern_value, scaling_of
from adapterkit.methods.lora.moved_weight import is_transposed
from adapterkit.methods.lowest_layer import BELOW_ALL_LAYERS, lowest_layers
from adapterkit.methods.reach import check_bare, is_wrapped
from adapterkit.methods.rows.lora import MAGNITUDE, A, B, Lora
from adapterkit.recipe import LoraMethod

_Known = dict[tuple[str, tuple[str, ...], Layout], Permutation]
_KNOWN: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()
_MOST_KNOWN = 16


def pack_lora(given: Unpacked[LoraMethod]) -> Packed:
    """Pack a LoRA. What was packed once from files with this layout is packed in one gather from then on."""
    method, backbone = given.settings, given.backbone
    # Magnitudes and biases are packed with the backbone's weights, and not only moved.
    slab = None if method.dora or method.bias != "none" else Slab.of(given.tensors)
    if slab is None:
        return _pack_by_tensor(given)
    known = _KNOWN.setdefault(backbone.trunk, {})
    key = method.model_dump_json(), tuple(map(str, given.config.get("target_modules") or ())), slab.layout
    permutation = known.get(key)
    if permutation is not None:
        packed = permutation.pack(slab.whole, backbone.device, backbone.dtype)
        return packed if all_finite(packed.flat) else _pack_by_tensor(given)
    packed = _pack_by_tensor(given)
    if len(known) >= _MOST_KNOWN:
        known.clear()
    places = _updates(Unpacked(method, given.config, slab.places(), backbone))
    known[key] = Permutation(packed, low_rank(places.values()))
    return packed


def _pack_by_tensor(given: Unpacked[LoraMethod]) -> Packed:
    method, trunk = given.settings, given.backbone.trunk
    updates = _updates(given)
    magnitudes = {t: given.take(f"{t}.{MAGNITUDE}", (len(update.b),)) for t, update in updates.items() if method.dora}
    biases = _take_biases(given, updates)
    if method.bias != "none" and not biases:
        raise refused([f"method.bias: found {method.bias}, and there are none there"])
    if method.dora or biases:
        check_bare(
            trunk,
            "this adapter is packed with the backbone's weights, and another adapter is attached to them",
            "Detach the other adapter first, or load the backbone twice.",
        )
    affines: list[Laid] = []
    for target, magnitude_O in magnitudes.items():
        update = updates[target]
        path, b_OR = update.site.path, update.scaling * update.b.float()
        gain_O = _gain(trunk.get_submodule(path), update.a.float(), b_OR, magnitude_O.float())
        affines.append(affine(path, gain_O, _shift(trunk, path, gain_O, biases.pop(path, None))))
        updates[target] = replace(update, b=gain_O[:, None] * b_OR, scaling=1.0)
    affines += [affine(path, shift=_shift(trunk, path, None, bias)) for path, bias in biases.items()]
    lowest = lowest_layers(update.site for update in updates.values())
    if method.bias == "all":
        lowest = dict.fromkeys(lowest, BELOW_ALL_LAYERS)
    return given.packed(Lora.endings, [*affines, *low_rank(updates.values())], lowest)


def _updates(given: Unpacked[LoraMethod]) -> dict[str, Update]:
    """The updates, by path of their linear in the adapter's model; without DoRA's gain."""
    method = given.settings
    chosen = {site.path: site for site in choose(given.backbone.sites, method)}
    found = {}
    for path, (site, target) in given.targets(chosen).items():
        outputs, inputs = given.sizes(path)
        rank = (2 if method.moves_weight else 1) * pattern_value(method.rank_pattern, site, method.rank)
        a_RI, b_OR = given.take(f"{target}.{A}", (rank, inputs)), given.take(f"{target}.{B}", (outputs, rank))
        found[target] = Update(site, a_RI, b_OR, scaling_of(method, site))
    return found


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


def _take_biases(given: Unpacked[LoraMethod], updates: Mapping[str, Update]) -> dict[str, Tensor]:
    """Trained biases by the path of their module in the trunk."""
    bias, trunk = given.settings.bias, given.backbone.trunk
    if bias == "none":
        return {}
    sizes: dict[str, tuple[int, ...]] = {
        path: tuple(module.bias.shape)
        for path, module in trunk.named_modules()
        if isinstance(getattr(module, "bias", None), nn.Parameter) and not is_wrapped(module)
    }
    # Beside an adapter a module's own bias has the name that PEFT's wrapper gives it.
    names = {update.site.path: f"{target}.base_layer.bias" for target, update in updates.items()}
    if bias == "lora_only":
        return {path: given.take(name, sizes[path]) for path, name in names.items() if path in sizes}
    target, update = next(iter(updates.items()))
    prefix = target[: len(target) - len(update.site.path)]
    held = {update.site.side for update in updates.values()}
    layers = tuple(
        f"{site.path}." for site in given.backbone.sites.sites if site.name == LAYER_OUTPUT and site.side in held
    )
    found: dict[str, Tensor] = {}
    for path, size in sizes.items():
        name = names.get(path, f"{prefix}{path}.bias")
        # A module that is saved whole is a head's.
        if f"{prefix}{path}.weight" not in given.tensors and (name in given.tensors or path.startswith(layers)):
            found[path] = given.take(name, size)
    return found
