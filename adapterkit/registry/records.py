"""What the registry says of a version, and of what answered when."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapterkit.errors import RegistryError
from adapterkit.recipe.suggestions import nearest

SHORT = 12
"""Hex digits of a digest that people see; any prefix of a version that is unique is understood."""
_NAME = re.compile(r"[^\x00-\x1f\x7f/@]{1,200}")
_PERSON = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_MIN_PREFIX = 4


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


def check_name(name: str, what: str) -> str:
    """The name, if it can be one. Raises RegistryError else."""
    person = what == "actor"
    if not (_PERSON if person else _NAME).fullmatch(name) or name != name.strip():
        without = "control characters" if person else "/, @, control characters"
        raise RegistryError(
            f"{name[:60]!r} cannot be the name of {'an' if person else 'a'} {what}",
            [f"{what}: expected 1 to 200 characters without {without} or space at an end"],
        )
    return name


def find_version(task: str, named: str, versions: Sequence[Version], tasks: Callable[[], Iterable[str]]) -> Version:
    """The version of a task that a digest, a prefix of one, a number or a channel means. `versions`: of the task.
    `tasks`: gives the names of all tasks, for the error. Raises RegistryError: none, or more than one."""
    if not versions:
        known = sorted(tasks())
        near = nearest(task, known)
        hint = f"; did you mean {near!r}?" if near else ""
        listed = ", ".join(known[:20]) or "none"
        raise RegistryError(f"the registry has no task {task!r}{hint}", [f"tasks: {listed}"])
    found = [version for version in versions if named in version.channels]
    found = found or [version for version in versions if named == str(version.number)]
    if not found and len(named) >= _MIN_PREFIX:
        found = [version for version in versions if version.digest.startswith(named.lower())]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(
        f"{each.number} ({each.short}{''.join(f', {c}' for c in each.channels)})" for each in versions[-10:]
    )
    raise RegistryError(
        f"{task} has {'no version' if not found else 'several versions'} {named!r}",
        [f"versions: {listed}"],
        "Name a version by its number, its digest or the beginning of it, or a channel.",
    )
