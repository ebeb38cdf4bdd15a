"""Frozen weights in eight or four bits: `int8` (torchao) and `nf4` (bitsandbytes), weights only.

Products are computed in the backbone's dtype, from weights that are scaled back one product at a time.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adapterkit.backbone import packed_weights
from adapterkit.backbone.packed_weights import is_packed
from adapterkit.backbone.sites import Sites
from adapterkit.errors import BackboneError

Quantised = Literal["", "int8", "nf4"]
"""How the linears of a backbone's layers are kept; "" in plain numbers."""

NF4_BLOCK = 64
"""Weights that share a scale; 256 scales share another (Dettmers et al. 2023, section 3)."""
_SMALL_BLOCK = 32
"""The same where rows are a multiple of this alone, since bitsandbytes misreads blocks that span rows on some CPUs."""


def quantised_linears(trunk: nn.Module, sites: Sites) -> list[str]:
    """Paths of the linears in the trunk's layers. Embeddings, norms, a pooler and heads keep their weights.
    Raises BackboneError: the linears are of a class that is not quantised."""
    paths = {site.path: trunk.get_submodule(site.path) for site in sites.sites}
    found = sorted(path for path, module in paths.items() if type(module) is nn.Linear)
    if not found:
        kinds = {type(module).__name__ for module in paths.values() if hasattr(module, "weight")}
        told = [f"found {', '.join(sorted(kinds))}, expected Linear"]
        raise BackboneError(
            f"{type(trunk).__name__} has no linears that can be quantised", told, "Load it in bfloat16."
        )
    return found


def linear_weights(trunk: nn.Module, sites: Sites) -> list[nn.Parameter]:
    """The weights that `quantise` would make narrow."""
    return [trunk.get_parameter(f"{path}.weight") for path in quantised_linears(trunk, sites)]


def quantise(trunk: nn.Module, sites: Sites, form: str, device: torch.device) -> None:
    """Replace the weights of the linears in a trunk's layers by narrow ones on a device, one linear after the other.
    Raises BackboneError: what quantises is not installed, or the linears are of a class that it does not know."""
    _QUANTISERS[form](trunk, quantised_linears(trunk, sites), device)
    trunk.requires_grad_(False)


def stored_form(config: Mapping[str, Any]) -> Quantised:
    """How a checkpoint keeps its weights, by its config.json.
    Raises BackboneError: in a way that adapters were not tried on."""
    stored = config.get("quantization_config")
    if stored is None:
        return ""
    kind = stored.get("bnb_4bit_quant_type") if stored.get("load_in_4bit") else stored.get("quant_method")
    if kind != "nf4":
        raise BackboneError(
            f"the checkpoint's weights are quantised ({kind})",
            ["quantization_config in config.json: expected none, or bitsandbytes with nf4"],
            "Name the checkpoint that it was made of, and load it with dtype=int8 or dtype=nf4.",
        )
    return "nf4"


def kept_form(config: Mapping[str, Any], dtype: str) -> Quantised:
    """How a backbone that is loaded as `dtype` keeps the weights of a checkpoint with this config.json.
    Raises BackboneError: it is stored in narrow weights, and others are asked for."""
    stored = stored_form(config)
    if stored and dtype not in ("auto", stored):
        raise BackboneError(
            f"the checkpoint is stored in {stored}, and {dtype} was asked for",
            remedy="Load it with dtype=auto, or name the checkpoint that it was made of.",
        )
    return stored or (dtype if dtype in _QUANTISERS else "")  # type: ignore[return-value]


def adopt(trunk: nn.Module, dtype: torch.dtype) -> None:
    """Make a trunk that is stored in nf4 the same as `quantise` makes it, with everything else in `dtype`.

    transformers leaves the rest of such a checkpoint in the format that it is stored in.
    """
    from adapterkit.backbone import nf4  # transformers has asked for bitsandbytes before

    told: Any = trunk
    # By these transformers and PEFT would look for linears of their own.
    del told.config.quantization_config, told.is_loaded_in_4bit
    stored: Any = told.get_input_embeddings()
    rest = [p for p in trunk.parameters() if type(p) is nn.Parameter and p.dtype == stored.weight.dtype]
    for parameter in rest:
        parameter.data = parameter.data.to(dtype)
    nf4.adopt(trunk, dtype)


def quantised_bytes(weight: Tensor, form: str) -> int:
    """What a weight (O, I) takes once it is narrow, scales included."""
    if form == "int8":  # an integer each, and for each output a scale and a zero
        return weight.numel() + weight.shape[0] * (weight.element_size() + 1)
    blocks = -(-weight.numel() // nf4_block(weight.shape[1]))
    return -(-weight.numel() // 2) + blocks + 4 * -(-blocks // 256)


def nf4_block(inputs: int) -> int:
    """How many weights of rows of so many share a scale."""
    return _SMALL_BLOCK if inputs % NF4_BLOCK == _SMALL_BLOCK else NF4_BLOCK


def parameter_count(module: nn.Module) -> int:
    """How many numbers a module's parameters stand for, however they are kept."""
    states = [(parameter, getattr(parameter, "quant_state", None)) for parameter in module.parameters()]
    return sum(parameter.numel() if state is None else state.shape.numel() for parameter, state in states)


def is_plain(linear: Any) -> bool:
    """Whether a linear's weight is a tensor of numbers, and not what a quantiser or oneDNN has made of it."""
    return type(linear.weight) is nn.Parameter and not linear.weight.is_mkldnn


def plain_weight(linear: Any) -> Tensor:
    """A linear's weight as a tensor of numbers, as its class has it."""
    weight: Any = linear.weight
    if is_plain(linear):
        return torch.as_tensor(weight)
    if is_packed(linear):
        return packed_weights.plain_weight(linear)
    return torch.as_tensor(linear.plain_weight() if hasattr(linear, "plain_weight") else weight.dequantize())


def _int8(trunk: nn.Module, paths: list[str], device: torch.device) -> None:
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise _missing("int8", "torchao", error) from error
    chosen = {id(trunk.get_submodule(path)) for path in paths}
    quantize_(trunk, Int8WeightOnlyConfig(), filter_fn=lambda module, _: id(module) in chosen, device=device)


def _nf4(trunk: nn.Module, paths: list[str], device: torch.device) -> None:
    try:
        from adapterkit.backbone.nf4 import narrowed
    except ImportError as error:
        raise _missing("nf4", "bitsandbytes", error) from error
    for path in paths:
        linear: Any = trunk.get_submodule(path)
        trunk.set_submodule(path, narrowed(linear, nf4_block(linear.in_features), device))


def _missing(form: str, package: str, error: ImportError) -> BackboneError:
    return BackboneError(
        f"weights in {form} need {package}", [str(error)], f"pip install 'adapterkit[{form}]', or load it in bfloat16."
    )


_QUANTISERS: dict[str, Callable[[nn.Module, list[str], torch.device], None]] = {"int8": _int8, "nf4": _nf4}
