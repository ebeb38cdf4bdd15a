"""What a promotion must pass. A gate looks at evidence, which others collected; it computes nothing itself.

files        the registry's copy is whole                  always looked at, needs no model
contract     it fits the backbone                          `adapterkit verify`
golden rows  it answers as when it was saved               `adapterkit verify`
compare      no worse than what the channel answers with   `adapterkit compare --json`, or yours
calibration  expected calibration error within a bound     `adapterkit evaluate --json`, `calibrate --json`, or yours
signature    signed by a key that the gate names           looked at here, where it is required
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from adapterkit.errors import GateError, RegistryError

Model = TypeVar("Model", bound=BaseModel)

Check = Literal["files", "contract", "golden rows", "compare", "calibration", "signature"]
CHECKS: tuple[str, ...] = get_args(Check)
JUDGED = {"comparison": "compare", "evaluation": "calibration", "calibrating": "calibration"}
"""Kind of record -> the check that it is evidence for."""


class Evidence(BaseModel):
    """What one check found: in a line for people, and the figures and digests behind it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    passed: bool
    detail: Annotated[str, Field(max_length=4096)] = ""
    facts: dict[str, Any] = Field(default_factory=dict)


class Gate(BaseModel):
    """The checks that a channel requires. Evidence that failed stops a promotion whether it was required or not.

    Attributes:
        require: checks without whose evidence nothing is promoted.
        most_ece: the largest expected calibration error that passes.
        signers: public keys, as `signing.spelled` has them, of which one must have signed where that is required.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    require: tuple[Check, ...] = ("files",)
    most_ece: Annotated[float, Field(gt=0, le=1)] = 0.05
    signers: tuple[Annotated[str, Field(pattern=r"^ed25519:[A-Za-z0-9+/]{43}=$")], ...] = ()

    @model_validator(mode="after")
    def _asks_for_signatures(self) -> Self:
        if self.signers and "signature" not in self.require:
            raise ValueError("signers: they count where a signature is required (--require signature)")
        return self

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


def read_evidence(
    found: Mapping[str, Any], digest: str = "", before: str | None = None, most_ece: float = 1.0
) -> dict[str, Evidence]:
    """Evidence by check, from what JSON holds. Raises RegistryError with everything that is wrong.

    Args:
        found: check -> evidence; or, for `compare` and `calibration`, the record of a verb that it follows from.
        digest: of the version that is to be promoted, which records must be about.
        before: of the version that the channel points to; None where there is none.
        most_ece: see `Gate`.
    """
    unknown = [f"{name}: unknown check, expected one of {', '.join(CHECKS)}" for name in found if name not in CHECKS]
    unknown += [f"{name}: the registry looks itself" for name in ("files", "signature") if name in found]
    if unknown:
        raise RegistryError("the evidence cannot be used", unknown)
    evidence = {}
    for name, value in found.items():
        if isinstance(value, Mapping) and "schema" in value:
            evidence[name] = from_record(name, value, digest, before, most_ece)
        else:
            evidence[name] = value if isinstance(value, Evidence) else _read(Evidence, value, name)
    return evidence


def check_of(record: Mapping[str, Any]) -> str:
    """The check that a record is evidence for. Raises RegistryError where it is for none."""
    name = str(record.get("schema")).removeprefix("adapterkit.").partition("/")[0]
    if name not in JUDGED:
        raise RegistryError("the evidence cannot be used", [f"schema: {name!r:.40}, expected {', '.join(JUDGED)}"])
    return JUDGED[name]


def from_record(check: str, record: Mapping[str, Any], digest: str, before: str | None, most_ece: float) -> Evidence:
    """What a record says of promoting a version: whether it is about this one, and the one that answers today."""
    from adapterkit.records import CalibratingRecord, ComparisonRecord, EvaluationRecord

    if check_of(record) != check:
        raise RegistryError("the evidence cannot be used", [f"{check}: a record of {record['schema']} is none"])
    if check == "compare":
        compared = _read(ComparisonRecord, record, check)
        main, about = compared.metrics[compared.metric], {"a": compared.a.sha256, "b": compared.b.sha256}
        others = {"a": before or compared.a.sha256, "b": digest}
        passed, data = compared.verdict != "worse", compared.data
        interval = f"{main.difference:+.4f} [{main.low:+.4f}, {main.high:+.4f}]"
        detail = f"{compared.verdict}: {compared.metric} {interval} on {data.rows:,} rows"
    else:
        of_new = "calibrating" in record["schema"]
        kind: type[CalibratingRecord] | type[EvaluationRecord] = CalibratingRecord if of_new else EvaluationRecord
        measured = _read(kind, record, check)
        about, others, data = {"answering": measured.answering.sha256}, {"answering": digest}, measured.data
        found = measured.after if isinstance(measured, CalibratingRecord) else measured.calibration
        passed = found is not None and found.ece <= most_ece
        error = "no confidence" if found is None else f"calibration error {found.ece:.4f}"
        detail = f"{error} on {data.rows:,} rows, expected at most {most_ece:g}"
    wrong = [name for name, wanted in others.items() if about[name] != wanted]
    if wrong:
        passed, detail = False, f"the record is about another version ({', '.join(wrong)})"
    return Evidence(passed=passed, detail=detail, facts={**about, "data": data.digest})


def _read(model: type[Model], value: Any, what: str) -> Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = [f"{what}.{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise RegistryError(f"{what} cannot be used", problems) from error
