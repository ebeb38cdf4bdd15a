"""IA3 through PEFT: explicit module names, and no pattern of anybody's reaches its matching."""

from collections.abc import Mapping
from typing import Any

from peft import IA3Config
from peft.tuners.ia3 import IA3Layer
from torch import nn
from transformers import Conv1D

from adapterkit.backbone import Site
from adapterkit.methods.ia3.choosing import scales_input
from adapterkit.methods.lora.peft_layers import injected, match_only
from adapterkit.recipe import Ia3Method


def ia3_config(model: nn.Module, targets: Mapping[str, Site], settings: Ia3Method) -> IA3Config:
    """PEFT's configuration for exactly these modules. `model`: that the paths are in. `targets`: sites by path in the
    model. Raises SiteError: PEFT's matching by suffix cannot tell these modules from others."""
    modules = dict(model.named_modules())
    config = IA3Config(
        target_modules=sorted(targets),
        feedforward_modules=sorted(path for path, site in targets.items() if scales_input(site, settings)),
        fan_in_fan_out=all(isinstance(modules[path], Conv1D) for path in targets),
    )
    match_only(config, modules, targets)
    return config


def check_injected(model: nn.Module, targets: Mapping[str, Site], settings: Ia3Method) -> dict[str, Any]:
    """The IA3 layers that PEFT made, by path, after a check that they are the ones that were asked for.
    Raises SiteError: other modules than asked for, or one that is scaled on its other side."""

    def problem_of(layer: Any, site: Site) -> str:
        return "" if layer.is_feedforward == scales_input(site, settings) else "scaled on its other side"

    return injected(model, IA3Layer, targets, problem_of)
