"""Attach a method to a model that shares a backbone's trunk, and take it off again without a trace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from peft.functional import inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from adapterkit.errors import ArtifactError, MergeError, SiteError
from adapterkit.methods import ia3, lora
from adapterkit.methods.adapter_name import ADAPTER
from adapterkit.methods.bottleneck import BottleneckConfig, BottleneckLayer
from adapterkit.methods.bottleneck.layer import refuse_merge
from adapterkit.methods.fused import put_under, take_away
from adapterkit.methods.fusion import FusionLayer, Part, fusion_layers
from adapterkit.methods.fusion.attaching import fusion_targets
from adapterkit.methods.merging import Merge
from adapterkit.methods.moved_weight import MovedWeight
from adapterkit.methods.reach import Reach, lowest_layers
from adapterkit.methods.snapshot import Before

if TYPE_CHECKING:
    from adapterkit.backbone import Backbone, Site
    from adapterkit.recipe import BottleneckMethod, FusionMethod, Ia3Method, LoraMethod, MethodSettings

BELOW_ALL_LAYERS = -1

_NOT_OWN = ("base_layer.", "parts.")
"""What a layer holds and an artifact does not: the linear that it wraps, and the parts of a fusion."""


class Attachment:
    """A method on a model.

    Attributes:
        lowest_layer: for each adapted side, the lowest layer that the method touches; what lies below depends on the
            input alone. -1 where the embeddings are touched too (bias="all"). Empty for the method `none`.
    """

    def __init__(
        self,
        layers: Mapping[str, Any],
        biases: Mapping[str, nn.Parameter],
        config: Mapping[str, Any],
        lowest_layer: Mapping[str, int],
        before: Before | None,
        sites: Mapping[str, Site] | None = None,
    ) -> None:
        """Used by `attach`, with the sites of LoRA's layers by path."""
        self.lowest_layer = dict(lowest_layer)
        self._sites = dict(sites or {})
        self._layers = dict(layers)
        self._biases = dict(biases)
        self._config = dict(config)
        self._before = before
        self._moved_weight = before.moved if before is not None else None
        self._merge: Merge | None = None
        self.fuse()

    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by path in the model without the adapter's name, as PEFT's files have it."""
        return {path: parameter for path, parameter in self._saved().items() if parameter.requires_grad}

    def biases(self) -> dict[str, nn.Parameter]:
        """The trunk's own biases that are trained too, by path in the model."""
        return dict(self._biases)

    def state(self) -> dict[str, Tensor]:
        """Copies of everything that makes the adapter, by path in the model as PEFT's files have it."""
        own: dict[str, Tensor] = {path: parameter.detach().clone() for path, parameter in self._saved().items()}
        return own if self._moved_weight is None else self._moved_weight.exported(own)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over values; they are cast to the dtype and moved to the device that the adapter has.

        Raises:
            ArtifactError: missing or unknown names, other shapes, values that are not finite; nothing is changed then.
            MergeError: the adapter is merged.
        """
        if self._merge is not None:
            raise MergeError("a merged adapter cannot be loaded into", remedy="Unmerge it first.")
        own = self.state()
        problems = [f"{path}: missing" for path in own if path not in state]
        problems += [f"{path}: not of this adapter" for path in sorted(set(state) - set(own))]
        for path in own.keys() & state.keys():
            found, expected = tuple(state[path].shape), tuple(own[path].shape)
            if found != expected:
                problems.append(f"{path}: shape {found}, expected {expected}")
            elif not torch.isfinite(state[path]).all():
                problems.append(f"{path}: holds values that are not finite")
        if problems:
            raise ArtifactError("these tensors do not fit the adapter", sorted(problems))
        values = state if self._moved_weight is None else self._moved_weight.imported(state)
        with torch.no_grad():
            for path, parameter in self._saved().items():
                parameter.copy_(values[path])

    def config(self) -> dict[str, Any]:
        """The content of PEFT's adapter_config.json; the caller sets task_type and base_model_name_or_path.

        The same whatever the hash seed. Empty for the method `none`.
        """
        content = self._config if self._moved_weight is None else self._moved_weight.config(self._config)
        copied: dict[str, Any] = lora.jsonable(content)
        return copied

    def train(self, mode: bool = True) -> None:
        """Switch the adapter's own dropout on or off; the trunk's stays as it is."""
        for layer in self._layers.values():
            for own in _own_modules(layer):
                own.train(mode)

    def fuse(self, on: bool = True) -> None:
        """Let training steps compute with fused functions, as they do from the start, or with plain operations.

        Both learn the same. Where the fused ones do not apply the plain ones run anyway (see `methods.fused`).
        """
        for layer in self._layers.values():
            if isinstance(layer, BottleneckLayer):
                layer.fused = on
        lora_layers = {path: layer for path, layer in self._layers.items() if isinstance(layer, LoraLayer)}
        take_away(lora_layers)
        if on:
            put_under(lora_layers, self._sites)

    def merge(self) -> None:
        """Fold the adapter into the backbone's weights.

        Raises:
            MergeError: a bottleneck, or values that are not finite; nothing is changed then.
        """
        if any(isinstance(layer, BottleneckLayer | FusionLayer) for layer in self._layers.values()):
            refuse_merge()
        if self._merge is None:
            self._merge = Merge(self._layers)

    def unmerge(self) -> None:
        """Put the backbone's weights back, bit for bit."""
        if self._merge is not None:
            self._merge.undo()
            self._merge = None

    def detach(self) -> None:
        """Take the method off: the trunk has its own modules, bytes and flags again. The adapter is gone."""
        self.unmerge()
        if self._before is not None:
            self._before.restore()
        self._layers, self._biases, self._moved_weight, self._before = {}, {}, None, None

    def _saved(self) -> dict[str, nn.Parameter]:
        found = dict(self._biases)
        for path, layer in self._layers.items():
            for name, parameter in layer.named_parameters():
                if not name.startswith(_NOT_OWN):
                    found[f"{path}.{file_name(name)}"] = parameter
        return dict(sorted(found.items()))


def _own_modules(layer: Any) -> list[nn.Module]:
    """The modules of a PEFT layer without the module that it wraps."""
    return [child for name, child in layer.named_children() if name != "base_layer"]


def file_name(name: str) -> str:
    """A parameter's name in a PEFT layer as PEFT's files have it: without the adapter's name."""
    short = ".".join(one for one in name.split(".") if one != ADAPTER)
    # PEFT keeps DoRA's magnitude in a module and its files do not show it.
    return short.removesuffix(".weight") if short.startswith("lora_magnitude_vector") else short


def attach(
    model: nn.Module,
    backbone: Backbone,
    settings: MethodSettings,
    *,
    seed: int,
    dtype: torch.dtype = torch.float32,
    parts: Sequence[Part] = (),
) -> Attachment:
    """Attach a method to a model that holds the backbone's modules.

    The adapter is in eval mode; nothing outside the trunk changes whether it is trained.

    Args:
        model: holds modules of the backbone's trunk, the very objects, and possibly a head.
        settings: which method, where and how.
        seed: of the initialisation; the global random generators are left as they were.
        dtype: of the adapter's tensors, whatever the backbone's.
        parts: of a fusion.

    Raises:
        SiteError: sites that do not exist or cannot be reached; lists what exists.
        RecipeError: settings that do not go together with this backbone.
    """
    given: Any = settings
    if settings.kind == "none":
        return Attachment({}, {}, {}, {}, None)
    reach = Reach(model, backbone.trunk)
    if settings.kind == "lora":
        return _attach_lora(model, backbone, given, reach, seed, dtype)
    if settings.kind == "ia3":
        return _attach_ia3(model, backbone, given, reach, seed, dtype)
    if settings.kind == "fusion":
        return _attach_fusion(model, backbone, given, parts, reach, seed, dtype)
    return _attach_bottleneck(model, backbone, given, reach, seed, dtype)


def _attach_lora(
    model: nn.Module, backbone: Backbone, settings: LoraMethod, reach: Reach, seed: int, dtype: torch.dtype
) -> Attachment:
    chosen = lora.choose(backbone.sites, settings)
    targets = reach.keep({site.path: site for site in chosen})
    lora.refuse_redirected(backbone.trunk, targets)
    config = lora.lora_config(model, targets, settings)
    biases = _biases(model, backbone.trunk, targets, settings.bias)
    with _attaching(model, backbone.trunk) as before:
        if lora.moves_weight(settings.initialization):
            before.moved = MovedWeight({path: model.get_submodule(path) for path in targets})
        _inject(model, config, backbone.device, seed, dtype)
        layers = lora.check_injected(model, targets, settings)
        if before.moved is not None:
            before.moved.take(layers)
        lora.renew_magnitudes(layers)
        # Their names are the ones that they have beside the adapter.
        trained = {name: bias for name, bias in model.named_parameters() if id(bias) in biases}
        before.train_only(trained)
    lowest = lowest_layers(targets.values())
    if settings.bias == "all":
        lowest = dict.fromkeys(lowest, BELOW_ALL_LAYERS)
    content = {**config.to_dict(), "target_modules": sorted(targets), "inference_mode": True}
    return Attachment(layers, trained, content, lowest, before, targets)


def _attach_ia3(
    model: nn.Module, backbone: Backbone, settings: Ia3Method, reach: Reach, seed: int, dtype: torch.dtype
) -> Attachment:
    targets = reach.keep({site.path: site for site in ia3.choose(backbone.sites, settings)})
    config = ia3.ia3_config(model, targets, settings)
    with _attaching(model, backbone.trunk) as before:
        _inject(model, config, backbone.device, seed, dtype)
        layers = ia3.check_injected(model, targets, settings)
        before.train_only({})
    content = {**config.to_dict(), "target_modules": sorted(targets), "inference_mode": True}
    return Attachment(layers, {}, content, lowest_layers(targets.values()), before)


def _attach_bottleneck(
    model: nn.Module, backbone: Backbone, settings: BottleneckMethod, reach: Reach, seed: int, dtype: torch.dtype
) -> Attachment:
    chosen = backbone.sites.select_sublayers(settings.sublayers, layers=settings.layers, top=settings.top)
    targets = reach.keep({sublayer.output: sublayer for sublayer in chosen})
    if settings.cross_attention and not any(sublayer.name == "cross_attention" for sublayer in targets.values()):
        raise SiteError(
            "there is no cross-attention in the layers that this model adapts",
            remedy="Use method.cross_attention=false, or a head that reads the decoder.",
        )
    residuals, norms = {}, {}
    for path, sublayer in targets.items():
        residual, norm = reach.path(sublayer.residual), sublayer.norm and reach.path(sublayer.norm)
        if settings.placement != "houlsby" and residual is not None:
            residuals[path] = residual
        if settings.placement == "pfeiffer" and norm is not None:
            norms[path] = norm
    config = BottleneckConfig(
        target_modules=sorted(targets),
        residual_modules=residuals,
        norm_modules=norms,
        placement=settings.placement,
        width=settings.width_for(backbone.contract.hidden_size),
        activation=settings.activation,
        scale=settings.scale,
        scale_learned=settings.scale_learned,
        dropout=settings.dropout,
    )
    with _attaching(model, backbone.trunk) as before:
        _inject(model, config, backbone.device, seed, dtype)
        before.train_only({})
    layers = {path: module for path, module in model.named_modules() if isinstance(module, BottleneckLayer)}
    content = {**config.to_dict(), "inference_mode": True}
    return Attachment(layers, {}, content, lowest_layers(targets.values()), before)


def _attach_fusion(
    model: nn.Module,
    backbone: Backbone,
    settings: FusionMethod,
    parts: Sequence[Part],
    reach: Reach,
    seed: int,
    dtype: torch.dtype,
) -> Attachment:
    targets = reach.keep(fusion_targets(backbone.sites.sublayers, parts))
    with _attaching(model, backbone.trunk) as before:
        with _seeded(backbone.device, seed):
            layers, content = fusion_layers(model, targets, parts, settings, reach, dtype)
        before.train_only({})
    return Attachment(layers, {}, content, lowest_layers(targets.values()), before)


@contextmanager
def _attaching(model: nn.Module, trunk: nn.Module) -> Iterator[Before]:
    """Attach all of it or nothing."""
    before = Before(model, trunk)
    try:
        yield before
    except BaseException:
        before.restore()
        raise


def _inject(model: nn.Module, config: Any, device: torch.device, seed: int, dtype: torch.dtype) -> None:
    with _seeded(device, seed):
        inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            for own in _own_modules(layer):
                own.to(dtype).eval()


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Draw from a seed, and leave the global random generators as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _biases(model: nn.Module, trunk: nn.Module, targets: Iterable[str], which: str) -> set[int]:
    """Ids of the biases of the trunk that are trained with LoRA.

    Raises:
        SiteError: biases are asked for, and there are none.
    """
    if which == "none":
        return set()
    if which == "all":
        in_trunk = {id(parameter) for parameter in trunk.parameters()}
        named = model.named_parameters()
        found = [p for name, p in named if name.rpartition(".")[2] == "bias" and id(p) in in_trunk]
    else:
        candidates = [getattr(model.get_submodule(path), "bias", None) for path in targets]
        found = [bias for bias in candidates if isinstance(bias, nn.Parameter)]
    if not found:
        raise SiteError(f"bias={which} asks for biases, and there are none there", remedy="Use method.bias=none.")
    return {id(bias) for bias in found}
