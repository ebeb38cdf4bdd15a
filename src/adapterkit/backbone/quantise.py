"""Frozen weights in eight bits: an integer for each, and a scale for each output channel (torchao, weights only).

Products are computed in the backbone's dtype, from weights that are scaled back one product at a time.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from adapterkit.backbone.sites import Sites
from adapterkit.errors import BackboneError

INT8 = "int8"
"""What to load a backbone's weights as, besides torch's number formats."""


def quantised_linears(trunk: nn.Module, sites: Sites) -> list[str]:
    """Paths of the linears in the trunk's layers. Embeddings, norms, a pooler and heads keep their weights.

    Raises:
        BackboneError: the linears are of a class that torchao does not quantise.
    """
    paths = {site.path: trunk.get_submodule(site.path) for site in sites.sites}
    found = sorted(path for path, module in paths.items() if type(module) is nn.Linear)
    if not found:
        kinds = {type(module).__name__ for module in paths.values() if hasattr(module, "weight")}
        raise BackboneError(
            f"{type(trunk).__name__} has no linears that can be {INT8}",
            [f"found {', '.join(sorted(kinds))}, expected Linear"],
            "Load it in bfloat16.",
        )
    return found


def linear_weights(trunk: nn.Module, sites: Sites) -> list[nn.Parameter]:
    """The weights that `quantise` would make narrow."""
    return [trunk.get_parameter(f"{path}.weight") for path in quantised_linears(trunk, sites)]


def quantise(trunk: nn.Module, sites: Sites) -> None:
    """Replace the weights of the linears in a trunk's layers by 8-bit ones.

    Raises:
        BackboneError: torchao is not installed, or the linears are of a class that it does not quantise.
    """
    quantize_, configuration = _torchao()
    chosen = {id(trunk.get_submodule(path)) for path in quantised_linears(trunk, sites)}
    quantize_(trunk, configuration, filter_fn=lambda module, _: id(module) in chosen)
    trunk.requires_grad_(False)


def is_plain(linear: Any) -> bool:
    """Whether a linear's weight is a tensor of numbers, and not what a quantiser has made of it."""
    return type(linear.weight) is nn.Parameter


def _torchao() -> tuple[Any, Any]:
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise BackboneError(
            f"weights in {INT8} need torchao", [str(error)], "pip install 'adapterkit[int8]', or load it in bfloat16."
        ) from error
    return quantize_, Int8WeightOnlyConfig()
