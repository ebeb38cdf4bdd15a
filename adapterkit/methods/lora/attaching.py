"""Attach a LoRA by PEFT's layers."""

from collections.abc import Iterable

from torch import nn

from adapterkit.errors import SiteError
from adapterkit.methods.attachment import Attachment
from adapterkit.methods.carrier import Carrier
from adapterkit.methods.lora.choosing import choose
from adapterkit.methods.lora.moved_weight import MovedWeight
from adapterkit.methods.lora.peft_layers import check_injected, lora_config, refuse_redirected, renew_magnitudes
from adapterkit.methods.lowest_layer import BELOW_ALL_LAYERS, lowest_layers
from adapterkit.methods.protocol import Method
from adapterkit.recipe import LoraMethod


def attach_lora(method: Method[LoraMethod], carrier: Carrier, settings: LoraMethod) -> Attachment:
    """See `Method.attach`."""
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
