"""LoRA through PEFT: explicit module names, and no pattern of anybody's reaches its matching."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch
from peft import LoraConfig, PeftConfig
from peft.tuners.lora import Linear as PeftLinear
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import nn
from transformers import Conv1D

from adapterkit.backbone import Site
from adapterkit.backbone.quantisation import is_plain, plain_weight
from adapterkit.errors import RecipeError, SiteError
from adapterkit.methods.adapter_name import ADAPTER
from adapterkit.methods.attachment import Attachment
from adapterkit.methods.carrier import Carrier
from adapterkit.methods.lora.choosing import choose, pattern_value, plain, unique
from adapterkit.methods.lora.moved_weight import MovedWeight
from adapterkit.methods.lowest_layer import BELOW_ALL_LAYERS, lowest_layers
from adapterkit.methods.protocol import Method
from adapterkit.recipe import LoraMethod


def attach_lora(method: Method[LoraMethod], carrier: Carrier, settings: LoraMethod) -> Attachment:
    """Attach a LoRA by PEFT's layers."""
    model, trunk = carrier.model, carrier.backbone.trunk
    targets = carrier.reach.keep({site.path: site for site in choose(carrier.backbone.sites, settings)})
    refuse_redirected(trunk, targets)
    config = lora_config(model, targets, settings)
    biases = _biases(model, trunk, targets, settings.bias)
    with carrier.attaching() as before:
        if settings.moves_weight:
            before.moved = MovedWeight({path: model.get_submodule(path) for path in targets})
        carrier.inject(config)
        layers = check_injected(model, targets, settings)
        if before.moved is not None:
            before.moved.take(layers)
        renew_magnitudes(layers)
        # Their names are the ones that they have beside the adapter.
        trained = {name: bias for name, bias in model.named_parameters() if id(bias) in biases}
        before.train_only(trained)
    lowest = lowest_layers(targets.values())
    if settings.bias == "all":
        lowest = dict.fromkeys(lowest, BELOW_ALL_LAYERS)
    content = {**config.to_dict(), "target_modules": sorted(targets), "inference_mode": True}
    return Attachment(method, settings, layers, content, lowest, before, targets, trained)


def _biases(model: nn.Module, trunk: nn.Module, targets: Iterable[str], which: str) -> set[int]:
    """Ids of the biases of the trunk that are trained with LoRA.
    Raises SiteError: biases are asked for, and there are none."""
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


def refuse_redirected(trunk: nn.Module, targets: Mapping[str, Site]) -> None:
    """PEFT takes a gate_proj for the experts' wherever a model has experts, so that a shared expert's, or that of a
    layer without experts, would get no LoRA. `targets`: sites by path in any model on this trunk. Raises SiteError:
    some of the targets are such ones; says which ones are left."""
    names = {name for name in set(map(_own_name, targets)) if _is_redirected(trunk, name)}
    redirected = {path for path in targets if _own_name(path) in names}
    if redirected:
        refused = sorted({targets[path].name for path in redirected})
        left = unique(tuple(site for path, site in targets.items() if path not in redirected))
        raise SiteError(
            f"PEFT cannot adapt some of these linears of {type(trunk).__name__}",
            [f"site {name!r}: PEFT takes it for the experts'" for name in refused],
            f"Choose others: {', '.join(site.name for site in left) or 'those of the attention'}.",
        )


def _own_name(path: str) -> str:
    return path.rpartition(".")[2]


def _is_redirected(trunk: nn.Module, name: str) -> bool:
    config = LoraConfig(target_modules=[name])
    try:
        convert_peft_config_for_transformers(config, trunk, None)
    except ValueError:  # it wants the up_proj too
        return True
    return name not in config.target_modules


def lora_config(model: nn.Module, targets: Mapping[str, Site], settings: LoraMethod) -> LoraConfig:
    """PEFT's configuration for exactly these modules.
    `model`: that the paths are in. `targets`: sites by path in the model. Raises SiteError: PEFT's matching by suffix
    cannot tell these modules from others; RecipeError: an initialisation that does not work with a rank or a layer."""
    ranks = {path: pattern_value(settings.rank_pattern, site, settings.rank) for path, site in targets.items()}
    alphas = {path: pattern_value(settings.alpha_pattern, site, settings.alpha) for path, site in targets.items()}
    modules = dict(model.named_modules())
    _check_initialization(settings, {path: modules[path] for path in targets}, ranks)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=plain(settings.alpha),
        lora_dropout=settings.dropout,
        target_modules=sorted(targets),
        rank_pattern={path: rank for path, rank in sorted(ranks.items()) if rank != settings.rank},
        alpha_pattern={path: plain(alpha) for path, alpha in sorted(alphas.items()) if alpha != settings.alpha},
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        bias=settings.bias,
        fan_in_fan_out=all(isinstance(modules[path], Conv1D) for path in targets),
    )
    if settings.initialization != "default":
        # Afterwards, because PEFT warns here of a conversion of split weights that is not used.
        config.init_lora_weights = settings.initialization
    if any(type(modules[path]) is nn.Linear and not is_plain(modules[path]) for path in targets):
        # PEFT's layer for torchao's weights differs in merging, which is refused here, and takes no trained biases.
        config._register_custom_module({nn.Linear: PeftLinear})
    match_only(config, modules, targets)
    return config


def match_only(config: PeftConfig, modules: Mapping[str, nn.Module], targets: Collection[str]) -> None:
    """Exclude what PEFT's matching by suffix would adapt beside the targets.
    Raises SiteError: it cannot tell them from others."""
    matched = _matched(config, modules)
    if matched != set(targets):
        config.exclude_modules = matched - set(targets)
        if _matched(config, modules) != set(targets):
            told = [f"{name}: matched too" for name in sorted(matched - set(targets))[:4]]
            raise SiteError("PEFT cannot tell the chosen modules from others by name", told, "Choose other sites.")


def injected(
    model: nn.Module, kind: type, targets: Mapping[str, Site], problem_of: Callable[[Any, Site], str]
) -> dict[str, Any]:
    """The layers of a kind that PEFT made, by path, after a check that they are the ones that were asked for."""
    layers: dict[str, Any] = {path: module for path, module in model.named_modules() if isinstance(module, kind)}
    problems = [f"{path}: adapted, and not asked for" for path in sorted(layers.keys() - targets.keys())]
    problems += [f"{path}: asked for, and not adapted" for path in sorted(targets.keys() - layers.keys())]
    for path in sorted(layers.keys() & targets.keys()):
        if problem := problem_of(layers[path], targets[path]):
            problems.append(f"{path}: {problem}")
    if problems:
        raise SiteError("PEFT attached something else than asked for", problems, "Please report this.")
    return layers


def check_injected(model: nn.Module, targets: Mapping[str, Site], settings: LoraMethod) -> dict[str, Any]:
    """The LoRA layers that PEFT made, by path, after a check that they are the ones that were asked for.
    Raises SiteError: other modules, ranks or alphas than asked for."""

    def problem_of(layer: Any, site: Site) -> str:
        found: tuple[float, float] = (layer.r[ADAPTER], layer.lora_alpha[ADAPTER])
        rank = pattern_value(settings.rank_pattern, site, settings.rank)
        wanted = (rank, pattern_value(settings.alpha_pattern, site, settings.alpha))
        return "" if found == wanted else f"rank and alpha {found}, expected {wanted}"

    return injected(model, LoraLayer, targets, problem_of)


def renew_magnitudes(layers: Mapping[str, Any]) -> None:
    """Make DoRA's magnitudes the norms that its forward computes, in the dtype that it computes them in. PEFT takes
    them in the backbone's dtype; an adapter in another one would change the output before any training."""
    for layer in layers.values():
        if ADAPTER in layer.lora_magnitude_vector:
            dora = layer.lora_magnitude_vector[ADAPTER]
            a, b = layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]
            with torch.no_grad():
                weight = plain_weight(layer.get_base_layer()).to(a.weight.dtype)
                update = dora.get_lora_weight(lora_A=a, lora_B=b)
                dora.weight.copy_(dora.get_weight_norm(weight, update, layer.scaling[ADAPTER]))


def _matched(config: PeftConfig, modules: Mapping[str, nn.Module]) -> set[str]:
    return {name for name in modules if name and check_target_module_exists(config, name)}


def _check_initialization(settings: LoraMethod, modules: Mapping[str, Any], ranks: Mapping[str, int]) -> None:
    name: str = settings.initialization
    needs: list[tuple[Callable[[Any, int], bool], str]] = []
    if settings.moves_weight or name == "mica":
        needs.append((lambda m, r: is_plain(m), "weights that are not quantised"))
        needs.append((lambda m, r: r <= min(m.weight.shape), "a rank of at most the layer's narrower side"))
    if name == "olora":
        needs.append((lambda m, r: not isinstance(m, Conv1D), "torch linears, and not GPT-2's Conv1D"))
    if name == "orthogonal":
        needs.append((lambda m, r: r % 2 == 0, "an even rank"))
    problems = [
        f"method.initialization: {name} needs {need} ({path}, rank {ranks[path]})"
        for fits, need in needs
        for path in [path for path, module in modules.items() if not fits(module, ranks[path])][:1]
    ]
    if problems:
        raise RecipeError("this initialisation does not work here", problems, "Use method.initialization=default.")
