"""Make PEFT know the bottleneck, so that `PeftModel.from_pretrained` works on it.

`peft.utils.register_peft_method` refuses every name outside PEFT's own enum, so the three mappings behind it are
written here, with a `str` enum of ours as key: a lookup by the string of an `adapter_config.json` finds it too.
"""

from typing import Any

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

from adapterkit.methods.bottleneck.config import BottleneckConfig, BottleneckType
from adapterkit.methods.bottleneck.model import BottleneckModel


def register() -> None:
    """Write the bottleneck into PEFT's config, tuner and prefix mappings. Doing it again changes nothing.
    Raises RuntimeError: another package has taken the name."""
    entries: tuple[tuple[Any, Any], ...] = (
        (PEFT_TYPE_TO_CONFIG_MAPPING, BottleneckConfig),
        (PEFT_TYPE_TO_TUNER_MAPPING, BottleneckModel),
        (PEFT_TYPE_TO_PREFIX_MAPPING, BottleneckModel.prefix),
    )
    for mapping, entry in entries:
        if mapping.setdefault(BottleneckType.BOTTLENECK, entry) is not entry:
            raise RuntimeError(
                f"PEFT already knows a method named {BottleneckType.BOTTLENECK.value}: "
                f"{mapping[BottleneckType.BOTTLENECK]!r}"
            )
