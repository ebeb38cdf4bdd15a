"""What the registry says of a version, and of what answered when."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SHORT = 12
"""Hex digits of a digest that people see; any prefix of a version that is unique is understood."""


@dataclass(frozen=True)
class Version:
    """One immutable artifact of a task, named by its content.

    Attributes:
        digest: SHA-256 of the artifact's manifest, which holds those of all its files.
        number: 1, 2, … in the order of adding; for people.
        fingerprint: of the backbone that it was trained on.
        data: digest of the training rows; None where the manifest has none.
        recipe: digest of the recipe.
        parent: the version that it was made from; None for the first.
        size_bytes: of the tensors.
        source: where it came from when it was added.
        location: where the registry keeps its files.
        metrics: part of the data -> metric -> value, low and high.
        added_at: UTC.
    """

    task: str
    digest: str
    number: int
    kind: str
    method: str
    backbone: str
    fingerprint: str
    data: str | None
    recipe: str
    parent: str | None
    size_bytes: int
    source: str
    location: str
    metrics: Mapping[str, Any]
    added_at: str
    added_by: str
    channels: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        """The digest as people see it."""
        return self.digest[:SHORT]

    def __repr__(self) -> str:
        return f"Version({self.task} #{self.number} {self.short})"


@dataclass(frozen=True)
class Served:
    """What a channel of a task answered with, and since when.

    Attributes:
        since: when the channel began to point to it, UTC.
        until: when it ceased to; None where it still does.
        action: "promote" or "roll-back".
        evidence: check -> what it found, as it was when it was promoted.
        forced: the reason that was given for going past the gate, or "".
        why: what made the channel come back to it, such as the guard that the version after it broke.
        ended: what made the channel leave it, such as the guard that it broke.
    """

    version: Version
    channel: str
    since: str
    until: str | None
    by: str
    action: str
    evidence: Mapping[str, Any]
    forced: str = ""
    why: Mapping[str, Any] = field(default_factory=dict)
    ended: Mapping[str, Any] = field(default_factory=dict)
