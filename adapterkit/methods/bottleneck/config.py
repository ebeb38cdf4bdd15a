"""What a bottleneck adapter is, as PEFT stores it in `adapter_config.json`."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from peft import PeftConfig

from adapterkit.errors import ArtifactError
from adapterkit.methods.peft_fields import NAMES, OF_BOTTLENECK


class BottleneckType(StrEnum):
    """The key of the bottleneck in PEFT's mappings."""

    BOTTLENECK = "BOTTLENECK"


@dataclass
class BottleneckConfig(PeftConfig):
    """The bottleneck's configuration: JSON values only, modules by their full names, no pattern.

    For each target, a module that emits a sublayer's output, `residual_modules` has the module whose first input is the
    residual, needed by pfeiffer and parallel, and `norm_modules` the norm that the model applies after adding it, none
    where it normalises before the sublayer. `scale` is a factor on f, its value at birth where it is learned, one per
    target; dropout is on f after the scaling. PEFT reads `exclude_modules`, which is always empty.

    Raises ArtifactError: values that are not valid, all of them at once.
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
        targets: Any = self.target_modules
        targets = list(targets) if isinstance(targets, tuple | set | frozenset) else targets
        values = {"target_modules": targets, **{name: getattr(self, name) for name in OF_BOTTLENECK}}
        fields = {"target_modules": NAMES, **OF_BOTTLENECK}
        wrong = {name: expected for name, (fits, expected) in fields.items() if not fits(values[name])}
        problems = [f"{name}: found {_short(values[name])}, expected {expected}" for name, expected in wrong.items()]
        names = set() if "target_modules" in wrong else set(targets)
        if names and len(names) < len(targets):
            problems.append("target_modules: a name stands there twice")
        for name in ("residual_modules", "norm_modules"):
            if name not in wrong and (strange := sorted(values[name].keys() - names)):
                problems.append(f"{name}: {_short(strange)} not in target_modules")
        needs = self.placement != "houlsby" and not wrong.keys() & {"placement", "residual_modules"}
        if needs and (missing := sorted(names - self.residual_modules.keys())):
            problems.append(f"residual_modules: nothing for {_short(missing)}, which {self.placement} needs")
        if self.exclude_modules:
            problems.append(f"exclude_modules: found {_short(self.exclude_modules)}, expected none")
        return problems


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
