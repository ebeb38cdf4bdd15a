"""A prepared task as plain JSON values, and back: the fields of its dataclass, under their names."""

import math
from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, get_type_hints

from pydantic import ValidationError

from adapterkit.errors import DataError
from adapterkit.recipe.kinds import BELONGS
from adapterkit.recipe.task import UNWRITTEN, TaskSettings

OPTIONAL: Mapping[str, bool] = MappingProxyType({"optional": True})
"""Metadata of a field that is stored only where it differs from its default: artifacts are older than some fields."""


def write_stored(kind: str, task: Any) -> dict[str, Any]:
    """The kind and every field of a task."""
    stored: dict[str, Any] = {"kind": kind}
    for entry in fields(task):
        value = getattr(task, entry.name)
        if entry.metadata == OPTIONAL and value == entry.default:
            continue
        if entry.name == "settings":
            value = value.model_dump(mode="json")
        stored[entry.name] = list(value) if isinstance(value, tuple) else value
    return stored


def read_stored(kind: str, task_class: Any, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a task from what `write_stored` gave.
    Raises DataError: anything that `write_stored` cannot have given; every problem at once."""
    hints = get_type_hints(task_class)
    known = {entry.name: hints[entry.name] for entry in fields(task_class)}
    problems = [f"{name}: unknown" for name in stored if name not in known and name != "kind"]
    needed = [entry.name for entry in fields(task_class) if entry.metadata != OPTIONAL]
    problems += [f"{name}: missing" for name in needed if name not in stored]
    if stored.get("kind") != kind:
        problems.append(f"kind: found {stored.get('kind')!r:.40}, expected {kind!r}")
    values = {name: stored[name] for name in known if name in stored}
    for name, value in values.items():
        if not _is_of(known[name], value):
            problems.append(f"{name}: found {type(value).__name__}, expected {known[name].__name__}")
    if not problems:
        try:
            earlier = {name: value for name, value in UNWRITTEN.items() if kind in BELONGS[name]}
            values["settings"] = TaskSettings.model_validate({**earlier, **values["settings"]})
        except ValidationError as error:
            problems = [f"settings.{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        else:
            if values["settings"].kind != kind:
                problems.append(f"settings.kind: found {values['settings'].kind!r}, expected {kind!r}")
    if problems:
        raise DataError(f"the stored {kind} task cannot be read", problems)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _is_of(wanted: type, value: Any) -> bool:
    """Whether a JSON value can be what a task's field holds."""
    if wanted is TaskSettings:
        return isinstance(value, Mapping)
    if wanted == tuple[str, ...]:
        return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return type(value) is wanted
