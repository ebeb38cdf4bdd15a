"""What a promotion must pass. A gate looks at evidence, which others collected; it computes nothing itself.

files        the registry's copy is whole                  always looked at, needs no model
contract     it fits the backbone                          `adapterkit verify`
golden rows  it answers as when it was saved               `adapterkit verify`
compare      no worse than what the channel answers with   yours
calibration  expected calibration error within a bound     yours
signature    signed by a key that is trusted               yours
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapterkit.errors import GateError, RegistryError

Model = TypeVar("Model", bound=BaseModel)

CHECKS = ("files", "contract", "golden rows", "compare", "calibration", "signature")
Check = Literal["files", "contract", "golden rows", "compare", "calibration", "signature"]


class Evidence(BaseModel):
    """What one check found.

    Attributes:
        passed: whether it found all in order.
        detail: a line for people.
        facts: figures and digests behind it, such as a comparison's intervals.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    passed: bool
    detail: Annotated[str, Field(max_length=4096)] = ""
    facts: dict[str, Any] = Field(default_factory=dict)


class Gate(BaseModel):
    """The checks that a channel requires. Evidence that failed stops a promotion whether it was required or not.

    Attributes:
        require: checks without whose evidence nothing is promoted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    require: tuple[Check, ...] = ("files",)

    def problems(self, evidence: Mapping[str, Evidence]) -> list[str]:
        """Why this evidence is not enough; [] where it is."""
        missing = [f"{check}: no evidence, expected some" for check in self.require if check not in evidence]
        failed = [f"{check}: {found.detail or 'failed'}" for check, found in evidence.items() if not found.passed]
        return missing + failed

    def check(self, what: str, evidence: Mapping[str, Evidence]) -> None:
        """Raise GateError, with every reason, where this evidence is not enough."""
        problems = self.problems(evidence)
        if problems:
            raise GateError(
                f"{what} does not pass the gate ({len(problems)} problem{'s' if len(problems) > 1 else ''})",
                problems,
                "Give the evidence (--backbone PATH_OR_ID for contract and golden rows, --evidence FILE for others), "
                "or go past the gate with --force REASON, which the audit keeps.",
            )


def read_gate(settings: Mapping[str, Any]) -> Gate:
    """A gate from its settings. Raises RegistryError with every field that is wrong."""
    return _read(Gate, settings, "gate")


def read_evidence(found: Mapping[str, Any]) -> dict[str, Evidence]:
    """Evidence by check, from what JSON holds. Raises RegistryError with everything that is wrong."""
    unknown = [f"{name}: unknown check, expected one of {', '.join(CHECKS)}" for name in found if name not in CHECKS]
    if unknown:
        raise RegistryError("the evidence cannot be used", unknown)
    return {
        name: value if isinstance(value, Evidence) else _read(Evidence, value, name) for name, value in found.items()
    }


def _read(model: type[Model], value: Any, what: str) -> Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = [f"{what}.{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise RegistryError(f"{what} cannot be used", problems) from error
