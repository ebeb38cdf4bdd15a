"""The row of IA3."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from adapterkit.manifest import PartFacts
from adapterkit.methods.ia3.choosing import choose
from adapterkit.methods.lowest_layer import lowest_layers
from adapterkit.methods.peft_fields import FLAG, NAMES_OR_NONE, Field
from adapterkit.methods.protocol import Method, Shape
from adapterkit.recipe import Ia3Method

if TYPE_CHECKING:
    from adapterkit.methods.attachment import Attachment
    from adapterkit.methods.carrier import Carrier

FACTORS = "ia3_l"


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

    def attach(self, carrier: Carrier, settings: Ia3Method) -> Attachment:
        """Let PEFT attach it. See `Method.attach`."""
        from adapterkit.methods.attachment import Attachment
        from adapterkit.methods.ia3.peft_layers import check_injected, ia3_config

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

    def why_not_merged(self, settings: Ia3Method) -> str:
        """It scales rows or columns of weights."""
        return ""

    def why_not_summed(self, settings: Ia3Method) -> str:
        return "its factors rescale whole weights, so its ΔW has full rank and depends on what else is added"

    def why_not_averaged(self, settings: Ia3Method) -> str:
        """Weights are linear in its factors, so that their mean is the mean of what the members do to them."""
        return ""

    def rescales(self, settings: Ia3Method) -> str:
        """It does."""
        return "IA3"
