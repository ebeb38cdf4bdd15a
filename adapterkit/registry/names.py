"""Names of tasks, channels and people, and the version that somebody means."""

import re
from collections.abc import Callable, Iterable, Sequence

from adapterkit.errors import RegistryError
from adapterkit.recipe.suggestions import nearest
from adapterkit.registry.records import Version

_NAME = re.compile(r"[^\x00-\x1f\x7f/@]{1,200}")
_PERSON = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_MIN_PREFIX = 4


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
