"""The row of IA3 (Liu et al. 2022): where one stands, which side of each site is scaled, and its layers, by PEFT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from adapterkit.backbone import Site, Sites
from adapterkit.errors import SiteError
from adapterkit.manifest import PartFacts
from adapterkit.methods.lora.choosing import unique
from adapterkit.methods.lowest_layer import lowest_layers
from adapterkit.methods.peft_fields import FLAG, NAMES_OR_NONE, Field
from adapterkit.methods.protocol import Method, Shape
from adapterkit.recipe import Ia3Method

if TYPE_CHECKING:
    from peft import IA3Config
    from torch import nn

    from adapterkit.methods.attachment import Attachment
    from adapterkit.methods.carrier import Carrier

FACTORS = "ia3_l"
AUTO_ROLES = tuple(f"attention.{role}" for role in ("key", "value", "qkv", "key_value", "qkv_gate"))
"""Ends of the names of the sites whose output is scaled where a recipe names none: cross attention has them too."""
FEEDFORWARD = "feedforward.output"
"""The site whose input is scaled where a recipe names none."""


class Ia3(Method[Ia3Method]):
    """Factors on what linears give or read."""

    peft_type = "IA3"
    peft_import = ""
    endings = (FACTORS,)
    fields: ClassVar[Mapping[str, Field]] = {
        "feedforward_modules": NAMES_OR_NONE,
        "fan_in_fan_out": FLAG,
        "init_ia3_weights": FLAG,
    }
    required = ("feedforward_modules",)
    still: ClassVar[Mapping[str, float]] = {FACTORS: 1.0}
    not_merged = ""
    not_summed = "its factors rescale whole weights, so its ΔW has full rank and depends on what else is added"
    not_averaged = ""  # weights are linear in its factors: their mean is the mean of what the members do to them

    def attach(self, carrier: Carrier, settings: Ia3Method) -> Attachment:
        """Let PEFT attach it. See `Method.attach`."""
        from adapterkit.methods.attachment import Attachment

        targets = carrier.reach.keep({site.path: site for site in choose(carrier.backbone.sites, settings)})
        config = ia3_config(carrier.model, targets, settings)
        with carrier.attaching() as before:
            carrier.inject(config)
            layers = check_injected(carrier.model, targets, settings)
            before.train_only({})
        content = {**config.to_dict(), "target_modules": sorted(targets), "inference_mode": True}
        return Attachment(self, settings, layers, content, lowest_layers(targets.values()), before, targets)

    def shapes(self, settings: Ia3Method, config: Mapping[str, Any], target: str) -> Mapping[str, Shape]:
        """A row on what is read, a column on what is given."""
        return {FACTORS: (1, None) if target in config["feedforward_modules"] else (None, 1)}

    def config_problems(
        self, settings: Ia3Method, config: Mapping[str, Any], parts: Sequence[PartFacts]
    ) -> Iterator[str]:
        """Modules whose input is scaled, and which are not adapted."""
        for module in sorted(set(config["feedforward_modules"]) - set(config["target_modules"])):
            yield f"feedforward_modules: {module!r} is not one of target_modules"

    def rescales(self, settings: Ia3Method) -> str:
        return "IA3"


def choose(sites: Sites, settings: Ia3Method) -> tuple[Site, ...]:
    """The sites that a recipe names.
    Raises SiteError: sites, layers or inputs that match nothing; lists what exists."""
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
    """PEFT's configuration for exactly these modules. `model`: that the paths are in. `targets`: sites by path in the
    model. Raises SiteError: PEFT's matching by suffix cannot tell these modules from others."""
    from peft import IA3Config
    from transformers import Conv1D

    from adapterkit.methods.lora.peft_layers import match_only

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
    from peft.tuners.ia3 import IA3Layer

    from adapterkit.methods.lora.peft_layers import injected

    def problem_of(layer: Any, site: Site) -> str:
        return "" if layer.is_feedforward == scales_input(site, settings) else "scaled on its other side"

    return injected(model, IA3Layer, targets, problem_of)
