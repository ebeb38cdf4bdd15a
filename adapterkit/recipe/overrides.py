"""`key=value`: set any field of a recipe from the command line."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from adapterkit.recipe.methods import METHOD_SETTINGS
from adapterkit.recipe.yaml_text import YamlError, parse_yaml

COMMAND_LINE = "command line"

OPEN_MAPPINGS = (
    ("method", "rank_pattern"),
    ("method", "alpha_pattern"),
    ("data", "columns"),
    ("data", "splits"),
    ("training", "class_weights"),
)
"""Fields whose keys are the user's own words, which may hold dots: method.rank_pattern.attention.query=16."""

Path = tuple[str, ...]


@dataclass
class Overridden:
    """A recipe's raw mapping after the overrides, and every path that one set; notes: what else they changed, for the
    user to read; problems: those that cannot be read, or that lead nowhere."""

    raw: dict[str, Any]
    set_paths: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def override(raw: Mapping[str, Any], overrides: Sequence[str]) -> Overridden:
    """Set `path=value` fields in a recipe's raw mapping; of two for one path, the later counts.

    Values are read as YAML (1e-3, true, null, [4, 5], {text: sentence}); blocks that are missing are made. Setting
    `method.kind` to another kind drops the settings that belong to the file's kind only.
    """
    result = Overridden(deepcopy(dict(raw)))
    parsed = [found for text in overrides if (found := _parse(text, result.problems)) is not None]
    for path, value in parsed:
        if path == ("method", "kind"):
            _switch_method(result, value)
    for path, value in parsed:
        problem = _set(result.raw, path, value)
        if problem:
            result.problems.append(f"{'.'.join(path)} ({COMMAND_LINE}): {problem}")
        else:
            result.set_paths.append(path)
    return result


def _parse(text: str, problems: list[str]) -> tuple[Path, Any] | None:
    key, equals, value = text.partition("=")
    key = key.strip()
    names = tuple(key.split("."))
    if not equals or not all(names):
        problems.append(f"{text!r} ({COMMAND_LINE}): expected path=value, as in training.learning_rate=1e-3")
        return None
    try:
        parsed = parse_yaml(value).value
    except YamlError as error:
        problems.append(f"{key} ({COMMAND_LINE}): {value!r} cannot be read: {error}; put text in quotes: '{key}=\"…\"'")
        return None
    for opened in OPEN_MAPPINGS:
        if names[: len(opened)] == opened and len(names) > len(opened):
            names = (*opened, ".".join(names[len(opened) :]))
    return names, parsed


def _set(raw: dict[str, Any], path: Path, value: Any) -> str:
    """Set the value; returns what is in the way, or ""."""
    block = raw
    for depth, name in enumerate(path[:-1]):
        if block.get(name) is None:
            block[name] = {}
        if not isinstance(block[name], dict):
            return f"{'.'.join(path[: depth + 1])} is a value, not a block; nothing can be set inside it"
        block = block[name]
    block[path[-1]] = value
    return ""


def _switch_method(result: Overridden, new: Any) -> None:
    block = result.raw.get("method")
    if not isinstance(block, dict) or not isinstance(new, str) or new not in METHOD_SETTINGS:
        return
    old = block.get("kind", "lora")
    if old == new or old not in METHOD_SETTINGS:
        return
    only_old = METHOD_SETTINGS[old].model_fields.keys() - METHOD_SETTINGS[new].model_fields.keys()
    dropped = [name for name in block if name in only_old]
    for name in dropped:
        del block[name]
    if dropped:
        result.notes.append(f"method.kind={new}: left out {', '.join(dropped)}, which belong to {old} only")
