"""Read a method's tensors, as an artifact holds them, into what a host keeps of them.

Axes: I inputs, O outputs, R rank, D hidden width, M bottleneck width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.integrations import dequantize_module_weight
from torch import Tensor, nn

from adapterkit.adapted import PREFIX
from adapterkit.artifact.tensors import all_finite
from adapterkit.backbone import Backbone
from adapterkit.backbone.sites import Site
from adapterkit.errors import ArtifactError, SiteError
from adapterkit.host.assemble import Affine, Bottleneck, Packed, Scaled, Update, assemble
from adapterkit.host.pack_fusion import pack_fusion
from adapterkit.methods import ia3
from adapterkit.methods.attachment import BELOW_ALL_LAYERS
from adapterkit.methods.bottleneck.layer import hidden_width
from adapterkit.methods.fusion import Part
from adapterkit.methods.lora import choose, pattern_value, splits
from adapterkit.methods.reach import adapted_paths, lowest_layers
from adapterkit.methods.splitting import is_transposed
from adapterkit.recipe import BottleneckMethod, Ia3Method, LoraMethod, Method

__all__ = ["Packed", "pack"]

_REFUSED = "these tensors are not those of the method on this backbone"
_REMEDY = "Load the backbone that the artifact was trained on, or fetch the artifact again."


def pack(
    method: Method,
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
    if method.kind == "lora":
        return _pack_lora(method, config, names, backbone)
    if method.kind == "ia3":
        return _pack_ia3(method, config, names, backbone)
    if method.kind == "fusion":
        return pack_fusion(method, names, parts, backbone)
    return _pack_bottleneck(method, config, names, backbone)


# -- LoRA


def _pack_lora(
    method: LoraMethod, config: Mapping[str, Any], names: Mapping[str, Tensor], backbone: Backbone
) -> Packed:
    reader = _Reader(names)
    places = _lora_places(method, config, backbone)
    found: dict[str, tuple[Tensor, Tensor, Tensor | None]] = {}
    for place in places:
        a_RI = reader.take(f"{place.target}.lora_A.weight", (place.rank, place.inputs))
        b_OR = reader.take(f"{place.target}.lora_B.weight", (place.outputs, place.rank))
        magnitude_O = reader.take(f"{place.target}.lora_magnitude_vector", (place.outputs,)) if method.dora else None
        found[place.site.path] = a_RI, b_OR, magnitude_O
    targets = {place.site.path: (place.site, place.target) for place in places}
    biases = _take_biases(method, backbone, targets, reader)
    reader.finish(
        ending=(".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"),
    )
    if method.dora or biases:
        _refuse_adapted(backbone.trunk)
    updates: list[Update] = []
    affines: list[Affine] = []
    for place, (path, (a_RI, b_OR, magnitude_O)) in zip(places, found.items(), strict=True):
        scaling = place.scaling
        if magnitude_O is not None:
            b_OR, scaling = scaling * b_OR.float(), 1.0
            gain_O = _gain(backbone.trunk.get_submodule(path), a_RI.float(), b_OR, magnitude_O.float())
            affines.append(Affine(path, gain_O, _shift(backbone.trunk, path, gain_O, biases.pop(path, None))))
            b_OR = gain_O[:, None] * b_OR
        updates.append(Update(place.site, a_RI, b_OR, scaling))
    affines += [Affine(path, None, _shift(backbone.trunk, path, None, bias)) for path, bias in biases.items()]
    lowest = lowest_layers(update.site for update in updates)
    if method.bias == "all":
        lowest = dict.fromkeys(lowest, BELOW_ALL_LAYERS)
    return reader.checked(assemble(backbone, updates, affines, lowest_layer=lowest))


@dataclass(frozen=True)
class _Place:
    """A linear that a LoRA updates.

    Attributes:
        site: where it is in the trunk.
        target: its path in the adapter's model.
        rank: of the saved tensors.
        outputs, inputs: widths.
        scaling: what b · a is multiplied by.
    """

    site: Site
    target: str
    rank: int
    outputs: int
    inputs: int
    scaling: float


_Known = dict[tuple[str, tuple[str, ...]], tuple[_Place, ...]]
_KNOWN: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()
_MOST_KNOWN = 64


def _lora_places(method: LoraMethod, config: Mapping[str, Any], backbone: Backbone) -> tuple[_Place, ...]:
    """Where a LoRA stands. Kept for every backbone: adapters of one recipe stand in the same places.

    Raises:
        SiteError, ArtifactError: as `pack`.
    """
    known = _KNOWN.setdefault(backbone.trunk, {})
    listed = config.get("target_modules")
    key = method.model_dump_json(), tuple(map(str, listed)) if isinstance(listed, list | tuple | set) else ()
    found = known.get(key)
    if found is None:
        chosen = {site.path: site for site in choose(backbone.sites, method)}
        halves = 2 if splits(method.initialization) else 1
        found = tuple(
            _Place(
                site,
                target,
                halves * pattern_value(method.rank_pattern, site, method.rank),
                *_sizes(backbone, path),
                _scaling(method, site),
            )
            for path, (site, target) in _targets(config, chosen).items()
        )
        if len(known) >= _MOST_KNOWN:
            known.clear()
        known[key] = found
    return found


def _scaling(method: LoraMethod, site: Site) -> float:
    """alpha / rank, or alpha / √rank for rsLoRA; both halves of split weights have that of the rank in training."""
    alpha = pattern_value(method.alpha_pattern, site, method.alpha)
    rank = pattern_value(method.rank_pattern, site, method.rank)
    return alpha / (math.sqrt(rank) if method.rslora else rank)


def _gain(linear: nn.Module, a_RI: Tensor, b_OR: Tensor, magnitude_O: Tensor) -> Tensor:
    """magnitude / ‖W + b·a‖ for every output (Liu et al. 2024, eq. 5)."""
    weight = dequantize_module_weight(linear).detach().float().cpu()
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
    method: LoraMethod, backbone: Backbone, targets: Mapping[str, tuple[Site, str]], reader: _Reader
) -> dict[str, Tensor]:
    """Trained biases by the path of their module in the trunk."""
    if method.bias == "none":
        return {}
    modules = {
        path: module
        for path, module in backbone.trunk.named_modules()
        if isinstance(getattr(module, "bias", None), nn.Parameter) and not isinstance(module, BaseTunerLayer)
    }
    if method.bias == "lora_only":
        wanted = {path: target for path, (_, target) in targets.items() if path in modules}
        return {path: reader.take(f"{target}.base_layer.bias", _bias(modules[path])) for path, target in wanted.items()}
    path, (_, target) = next(iter(targets.items()))
    prefix = target[: len(target) - len(path)]
    found: dict[str, Tensor] = {}
    held = {site.stack for site, _ in targets.values()}
    stacked = tuple(
        f"{site.path}." for site in backbone.sites.sites if site.name == "layer.output" and site.stack in held
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


def _refuse_adapted(trunk: nn.Module) -> None:
    adapted = adapted_paths(trunk)
    if adapted:
        raise SiteError(
            "this adapter is packed with the backbone's weights, and another adapter is attached to them",
            [f"{path}: adapted" for path in adapted[:4]],
            "Detach the other adapter first, or load the backbone twice.",
        )


# -- IA3


def _pack_ia3(method: Ia3Method, config: Mapping[str, Any], names: Mapping[str, Tensor], backbone: Backbone) -> Packed:
    targets = _targets(config, {site.path: site for site in ia3.choose(backbone.sites, method)})
    reader = _Reader(names)
    affines, scaled = [], []
    for path, (site, target) in targets.items():
        outputs, inputs = _sizes(backbone, path)
        if ia3.scales_input(site, method):
            scaled.append(Scaled(path, reader.take(f"{target}.ia3_l", (1, inputs)).flatten()))
        else:
            affines.append(Affine(path, reader.take(f"{target}.ia3_l", (outputs, 1)).flatten(), None))
    reader.finish(ending=(".ia3_l",))
    lowest = lowest_layers(site for site, _ in targets.values())
    return reader.checked(assemble(backbone, affines=affines, scaled=scaled, lowest_layer=lowest))


# -- bottleneck


def _pack_bottleneck(
    method: BottleneckMethod, config: Mapping[str, Any], names: Mapping[str, Tensor], backbone: Backbone
) -> Packed:
    sublayers = ("attention", "feedforward") if method.placement == "houlsby" else ("feedforward",)
    chosen = backbone.sites.select_sublayers(sublayers, layers=method.layers, top=method.top)
    targets = _targets(config, {sublayer.output: sublayer for sublayer in chosen})
    reader = _Reader(names)
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


# -- names and sizes


class _Stacked(Protocol):
    @property
    def stack(self) -> str: ...


P = TypeVar("P", bound=_Stacked)


def _targets(config: Mapping[str, Any], chosen: Mapping[str, P]) -> dict[str, tuple[P, str]]:
    """Path in the trunk -> the place there, and its path in the adapter's model.

    A model may hold only one stack of the trunk, and then all chosen places of it.

    Raises:
        ArtifactError: the config's targets are others.
    """
    listed = config.get("target_modules")
    targets = [] if isinstance(listed, str) or listed is None else sorted(listed)
    found: dict[str, str] = {}
    problems: list[str] = []
    for target in targets:
        path = _in_trunk(str(target), chosen)
        if path is None or path in found:
            problems.append(f"target_modules: {target}: not one of the method's places in this backbone")
        else:
            found[path] = target
    held = {chosen[path].stack for path in found}
    expected = [path for path, place in chosen.items() if place.stack in held or not held]
    problems += [
        f"target_modules: nothing for {path}, which the method adapts" for path in expected if path not in found
    ]
    if problems:
        raise ArtifactError("this adapter's targets are not those of its method on this backbone", problems, _REMEDY)
    return {path: (chosen[path], found[path]) for path in expected}


def _in_trunk(target: str, known: Mapping[str, Any]) -> str | None:
    """The longest end of a model's path that is a known path of the trunk."""
    parts = target.split(".")
    return next((path for start in range(len(parts)) if (path := ".".join(parts[start:])) in known), None)


def _sizes(backbone: Backbone, path: str) -> tuple[int, int]:
    """Outputs and inputs of a linear of the trunk."""
    linear: Any = backbone.trunk.get_submodule(path)
    if isinstance(linear, BaseTunerLayer):
        linear = linear.get_base_layer()
    return hidden_width(linear), int(linear.nx if is_transposed(linear) else linear.in_features)


class _Reader:
    """Takes tensors by name, and knows which were missing or had another shape."""

    def __init__(self, names: Mapping[str, Tensor]) -> None:
        self.names = names
        self._shapes: dict[str, tuple[int, ...]] = {}

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor on the CPU, as it is; zeros where it cannot be used, which `finish` then reports."""
        self._shapes[name] = shape
        tensor = self.names.get(name)
        if tensor is None or tensor.shape != shape:
            return torch.zeros(shape)
        return tensor.detach().cpu() if tensor.requires_grad or not tensor.is_cpu else tensor

    def finish(self, ending: tuple[str, ...]) -> None:
        """Refuse what was missing, misshapen, or belongs to the method at a place that it does not adapt."""
        unknown = [
            f"{name}: not a tensor of this method on this backbone"
            for name in sorted(self.names.keys() - self._shapes.keys())
            if name.endswith(ending)
        ]
        fits = all(name in self.names and self.names[name].shape == shape for name, shape in self._shapes.items())
        if unknown or not fits:
            raise ArtifactError(_REFUSED, [*self._problems(), *unknown], _REMEDY)

    def checked(self, packed: Packed) -> Packed:
        """What was made of the tensors, if it is finite: an infinity or a NaN in any of them is one in it."""
        if not all_finite(packed.flat):
            outside = [f"once scaled, they are out of the range of {packed.flat.dtype}"]
            raise ArtifactError(_REFUSED, self._problems() or outside, _REMEDY)
        return packed

    def _problems(self) -> list[str]:
        """What is wrong with the tensors that were taken, in that order."""
        problems: list[str] = []
        for name, shape in self._shapes.items():
            tensor = self.names.get(name)
            if tensor is None:
                problems.append(f"{name}: missing")
            elif tensor.shape != shape:
                problems.append(f"{name}: shape {tuple(tensor.shape)}, expected {shape}")
            elif not all_finite(tensor):
                problems.append(f"{name}: holds values that are not finite")
        return problems
