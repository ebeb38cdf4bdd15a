"""What a bottleneck adapter is, as PEFT stores it in `adapter_config.json`."""

import math
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from peft import PeftConfig

from adapterkit.errors import ArtifactError
from adapterkit.methods.equations import ACTIVATIONS, PLACEMENTS

WIDEST = 1 << 16

_MODULE_NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*", re.ASCII)


class BottleneckType(StrEnum):
    """The key of the bottleneck in PEFT's mappings."""

    BOTTLENECK = "BOTTLENECK"


@dataclass
class BottleneckConfig(PeftConfig):
    """The bottleneck's configuration: JSON values only, modules by their full names, no pattern.

    Args:
        target_modules: full names of the modules that emit a sublayer's output, sorted.
        residual_modules: for each target, the module whose first input is the residual; needed by pfeiffer, parallel.
        norm_modules: for each target, the norm that the model applies after adding the residual; none where the model
            normalises before the sublayer.
        placement: `houlsby`, `pfeiffer` or `parallel`.
        width: of the bottleneck.
        activation: one of ACTIVATIONS.
        scale: factor on f; where it is learned, its value at birth.
        scale_learned: train the factor, one per target.
        dropout: probability, on f after the scaling.
        exclude_modules: always empty; PEFT reads it.
        modules_to_save: heads, as everywhere in PEFT.

    Raises:
        ArtifactError: values that are not valid, all of them at once.
    """

    target_modules: Any = ()
    residual_modules: dict[str, str] = field(default_factory=dict)
    norm_modules: dict[str, str] = field(default_factory=dict)
    placement: str = "pfeiffer"
    width: int = 8
    activation: str = "relu"
    scale: float = 1.0
    scale_learned: bool = False
    dropout: float = 0.0
    exclude_modules: list[str] | None = None
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = BottleneckType.BOTTLENECK
        problems = self._problems()
        if problems:
            raise ArtifactError("the bottleneck's configuration is not valid", problems)
        # A tuple, because PEFT shortens long lists and sets of names to suffixes, which match more than was meant.
        self.target_modules = tuple(sorted(self.target_modules))

    def _problems(self) -> list[str]:
        problems = []
        targets: Any = self.target_modules
        if not isinstance(targets, list | tuple | set | frozenset) or not targets or not all(map(_is_name, targets)):
            problems.append(f"target_modules: found {_short(targets)}, expected a list of module names")
            targets = ()
        elif len(set(targets)) != len(targets):
            problems.append("target_modules: a name stands there twice")
        for name in ("residual_modules", "norm_modules"):
            value: Any = getattr(self, name)
            if not isinstance(value, dict) or not all(map(_is_name, [*value, *value.values()])):
                problems.append(f"{name}: found {_short(value)}, expected module names by module name")
            elif set(value) - set(targets):
                problems.append(f"{name}: {_short(sorted(set(value) - set(targets)))} not in target_modules")
        if self.placement not in PLACEMENTS:
            problems.append(f"placement: found {_short(self.placement)}, expected one of {', '.join(PLACEMENTS)}")
        elif self.placement != "houlsby":
            missing = sorted(set(targets) - set(self.residual_modules or ()))
            if missing:
                problems.append(f"residual_modules: nothing for {_short(missing)}, which {self.placement} needs")
        if not isinstance(self.activation, str) or self.activation not in ACTIVATIONS:
            problems.append(f"activation: found {_short(self.activation)}, expected one of {', '.join(ACTIVATIONS)}")
        if type(self.width) is not int or not 1 <= self.width <= WIDEST:
            problems.append(f"width: found {_short(self.width)}, expected 1 to {WIDEST}")
        if type(self.scale) not in (int, float) or not math.isfinite(self.scale):
            problems.append(f"scale: found {_short(self.scale)}, expected a finite number")
        learned: Any = self.scale_learned
        if not isinstance(learned, bool):
            problems.append(f"scale_learned: found {_short(learned)}, expected true or false")
        if type(self.dropout) not in (int, float) or not 0 <= self.dropout < 1:
            problems.append(f"dropout: found {_short(self.dropout)}, expected at least 0 and below 1")
        if self.exclude_modules:
            problems.append(f"exclude_modules: found {_short(self.exclude_modules)}, expected none")
        return problems


def _is_name(value: object) -> bool:
    return isinstance(value, str) and len(value) < 512 and _MODULE_NAME.fullmatch(value) is not None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
