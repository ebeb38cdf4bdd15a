"""The rules of a fleet, as people write them: which channels answer a task, how often, and what they have to keep.

tasks:
  intent:
    split: {stable: 0.95, candidate: 0.05}
    guards: {errors: 0.01, latency_ms: 200, feedback: 0.8}
    shadow: next
    shadow_share: 0.1
  ner: {}          # all by stable
alerts: [https://example.org/hook]
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, ValidationError, field_validator, model_validator

from adapterkit.errors import TrafficError
from adapterkit.recipe.yaml_text import read_yaml
from adapterkit.traffic.guards import Guards

Name = Annotated[str, Field(min_length=1, max_length=200)]


class TaskRules(BaseModel):
    """How one task is answered."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    split: Annotated[dict[Name, float], Field(min_length=1, max_length=16)] = Field(
        default_factory=lambda: {"stable": 1.0}
    )
    """Channel -> share; shares count relative to their sum."""
    flag: Name | None = None
    """A flag of OpenFeature that chooses the channel for a key; where it says nothing usable, the split does."""
    guards: Guards = Field(default_factory=Guards)
    """Bounds; a version that breaks one is taken off."""
    shadow: Name | None = None
    """A channel that is asked beside what answers, off the path of the answer."""
    shadow_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of the rows that the shadow is asked."""
    drift: Annotated[float, Field(ge=0.005, le=0.5)] = 0.01
    """How often an unchanged stream may be called drifted, per `drift_window` rows."""
    drift_window: Annotated[int, Field(ge=16, le=1024)] = 128
    """Rows that are compared with the artifact's reference together."""
    drift_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Of the rows that are compared; each costs a forward in spare time."""
    stream: Literal["adwin", "page-hinkley"] | None = None
    """How a change of the confidence is found, by river: ADWIN (Bifet & Gavaldà 2007) or Page-Hinkley."""
    log_rows: bool = False
    """Whether the log of disagreements holds what was asked, and the answers whole."""

    @field_validator("split")
    @classmethod
    def _shares(cls, split: dict[str, float]) -> dict[str, float]:
        if any(not math.isfinite(share) or share < 0 for share in split.values()) or not any(split.values()):
            raise ValueError("shares are 0 or more, and one of them is above 0")
        return split

    @model_validator(mode="after")
    def _one_role_each(self) -> Self:
        if self.shadow is not None and self.split.get(self.shadow):
            raise ValueError(f"{self.shadow!r} answers in the split, so it cannot be the shadow as well")
        return self

    @property
    def channels(self) -> tuple[str, ...]:
        """Every channel that answers. A flag may choose one without a share."""
        return tuple(channel for channel, share in self.split.items() if share or self.flag is not None)


class Rules(BaseModel):
    """How every task is answered; one that is not named is answered by `stable` alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tasks: dict[Name, TaskRules] = Field(default_factory=dict)
    """Task -> its rules."""
    alerts: Annotated[tuple[HttpUrl, ...], Field(max_length=8)] = ()
    """Addresses that are told when a guard trips or a stream drifts."""

    def of(self, task: str) -> TaskRules:
        """The rules of a task."""
        return self.tasks.get(task, TaskRules())

    def check_without_channels(self) -> None:
        """Raise TrafficError where these rules name channels, which only a registry has."""
        wrong = [
            f"tasks.{task}.{name}: it names channels, which a registry has"
            for task, rules in self.tasks.items()
            for name in ("split", "shadow", "flag")
            if name in rules.model_fields_set
        ]
        if wrong:
            raise TrafficError("the rules cannot be used", wrong, "Serve with --registry, or keep guards alone.")


def read_rules(source: str | Path | Mapping[str, Any]) -> Rules:
    """Rules from a YAML file or a mapping. Raises TrafficError: with everything that is wrong."""
    found: Any = source
    if not isinstance(source, Mapping):
        path = Path(source)
        found = read_yaml(path, path.name, "rules of traffic", TrafficError).value
    try:
        return Rules.model_validate(found or {})
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise TrafficError(
            "the rules cannot be used", problems, "As in tasks: {intent: {split: {stable: 1}}}"
        ) from error
