"""IA3 through PEFT: explicit module names, and no pattern of anybody's reaches its matching."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from peft import IA3Config
from peft.tuners.ia3 import IA3Layer
from torch import nn
from transformers import Conv1D

from adapterkit.errors import SiteError
from adapterkit.methods.lora import match_only, misplaced, unique

if TYPE_CHECKING:
    from adapterkit.backbone import Site, Sites
    from adapterkit.recipe import Ia3Method

AUTO_ROLES = tuple(f"attention.{role}" for role in ("key", "value", "qkv", "key_value", "qkv_gate"))
"""Ends of the names of the sites whose output is scaled where a recipe names none: cross attention has them too."""
FEEDFORWARD = "feedforward.output"
"""The site whose input is scaled where a recipe names none."""


def choose(sites: Sites, settings: Ia3Method) -> tuple[Site, ...]:
    """The sites that a recipe names.

    Raises:
        SiteError: sites, layers or inputs that match nothing; lists what exists.
    """
    auto = tuple(name for name in sites.names() if name.endswith(AUTO_ROLES) or name == FEEDFORWARD)
    names = auto if settings.sites == "auto" else settings.sites
    chosen = sites.select(names, layers=settings.layers, top=settings.top)
    problems = [f"site {site.name!r}: not a linear, which IA3 needs" for site in unique(chosen) if not site.linear]
    if settings.inputs != "auto":
        problems += [f"inputs: {name!r} is none of the chosen sites" for name in settings.inputs if name not in names]
    if problems:
        raise SiteError(
            "IA3 cannot be attached as asked", problems, f"Chosen sites: {', '.join(names)}. {sites.describe()}"
        )
    return chosen


def scales_input(site: Site, settings: Ia3Method) -> bool:
    """Whether what a site reads is scaled, and not what it gives."""
    return site.name == FEEDFORWARD if settings.inputs == "auto" else site.name in settings.inputs


def ia3_config(model: nn.Module, targets: Mapping[str, Site], settings: Ia3Method) -> IA3Config:
    """PEFT's configuration for exactly these modules.

    Args:
        model: that the paths are in.
        targets: sites by path in the model.

    Raises:
        SiteError: PEFT's matching by suffix cannot tell these modules from others.
    """
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

    Raises:
        SiteError: other modules than asked for, or one that is scaled on its other side.
    """
    layers: dict[str, Any] = {path: module for path, module in model.named_modules() if isinstance(module, IA3Layer)}
    problems = misplaced(layers, targets)
    problems += [
        f"{path}: scaled on its other side"
        for path in sorted(set(layers) & set(targets))
        if layers[path].is_feedforward != scales_input(targets[path], settings)
    ]
    if problems:
        raise SiteError("PEFT attached something else than asked for", problems, "Please report this.")
    return layers
