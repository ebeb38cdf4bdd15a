"""No method: the head alone is trained. To PEFT it is a LoRA that targets nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from adapterkit.backbone import Backbone
from adapterkit.methods.peft_fields import NUMBER, RANK, Field
from adapterkit.methods.protocol import Method, Shape
from adapterkit.recipe import NoMethod

if TYPE_CHECKING:
    from adapterkit.methods.attachment import Attachment
    from adapterkit.methods.carrier import Carrier

NO_TARGETS = "dummy-target-modules"
"""What PEFT calls a list of no targets (`peft.utils.constants.DUMMY_TARGET_MODULES`)."""


class Nothing(Method[NoMethod]):
    """The row of `none`."""

    peft_type = "LORA"
    peft_import = ""
    endings = ()
    not_merged = ""
    not_summed = "it has no ΔW"
    not_averaged = "it has no parameters beside its head"
    fields: ClassVar[Mapping[str, Field]] = {
        "target_modules": (lambda value: value == NO_TARGETS, repr(NO_TARGETS)),
        "r": RANK,
        "lora_alpha": NUMBER,
    }

    def attach(self, carrier: Carrier, settings: NoMethod) -> Attachment:
        """Attach nothing. Raises SiteError where the model carries a method already."""
        from adapterkit.methods.attachment import Attachment

        _ = carrier.reach  # which looks
        return Attachment(self, settings, {}, {"r": 1, "lora_alpha": 1, "target_modules": NO_TARGETS}, {}, None)

    def shapes(self, settings: NoMethod, config: Mapping[str, Any], target: str) -> Mapping[str, Shape]:
        return {}

    def why_not_joined(self, settings: NoMethod, backbone: Backbone) -> str:
        """Heads train side by side."""
        return ""

    def rescales(self, settings: NoMethod) -> str:
        return ""
