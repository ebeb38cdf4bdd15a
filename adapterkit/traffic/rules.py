"""The rules of a fleet, as people write them: which channels answer a task, and how often.

tasks:
  intent:
    split: {stable: 0.95, candidate: 0.05}
  ner: {}          # all by stable
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from adapterkit.errors import TrafficError
from adapterkit.recipe.yaml_text import read_yaml

Name = Annotated[str, Field(min_length=1, max_length=200)]


class TaskRules(BaseModel):
    """How one task is answered.

    Attributes:
        split: channel -> share; shares count relative to their sum.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    split: Annotated[dict[Name, float], Field(min_length=1, max_length=16)] = Field(
        default_factory=lambda: {"stable": 1.0}
    )

    @field_validator("split")
    @classmethod
    def _shares(cls, split: dict[str, float]) -> dict[str, float]:
        if any(not math.isfinite(share) or share < 0 for share in split.values()) or not any(split.values()):
            raise ValueError("shares are 0 or more, and one of them is above 0")
        return split

    @property
    def channels(self) -> tuple[str, ...]:
        """Every channel that is asked."""
        return tuple(channel for channel, share in self.split.items() if share)


class Rules(BaseModel):
    """How every task is answered; one that is not named is answered by `stable` alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tasks: dict[Name, TaskRules] = Field(default_factory=dict)

    def of(self, task: str) -> TaskRules:
        """The rules of a task."""
        return self.tasks.get(task, TaskRules())


def read_rules(source: str | Path | Mapping[str, Any]) -> Rules:
    """Rules from a YAML file or a mapping.

    Raises:
        TrafficError: with everything that is wrong.
    """
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
