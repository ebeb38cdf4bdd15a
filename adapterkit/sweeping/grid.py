"""A grid: fields of a recipe, and the values that each of them takes.

What stands behind `path=` is the inside of a YAML list: values are separated by commas, a value that is a list stands
in brackets, a mapping in braces, and text that holds a comma in quotes.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from adapterkit.errors import SweepError
from adapterkit.recipe.yaml_text import YamlError, parse_yaml

SEED = "training.seed"
SHORT = {"seed": SEED}
"""Short names of paths."""

FIXED = {
    "output": "every point has a folder of its own",
    "task.kind": "points are compared by one metric",
    "task.metric": "points are compared by one metric",
}
"""Fields that cannot be an axis, and why."""

EXAMPLE = "As in: --grid training.learning_rate=1e-3,2e-3 method.sites=[attention.query],[attention.value] seed=0,1,2"


@dataclass(frozen=True)
class Axis:
    """One field of the recipe, and its values in order.

    Attributes:
        path: of the field, as in an override.
        values: plain values, as a recipe has them.
    """

    path: str
    values: tuple[Any, ...]


def parse_grid(words: Sequence[str]) -> tuple[Axis, ...]:
    """Axes from "path=value,value" words.

    Raises:
        SweepError: with every word that cannot be read, or that contradicts another.
    """
    problems: list[str] = []
    found: list[tuple[str, Any]] = []
    for word in words:
        path, equals, text = word.partition("=")
        if not equals or not path.strip():
            problems.append(f"{word!r}: expected path=value,value")
            continue
        try:
            found.append((path.strip(), parse_yaml(f"[{text}]").value))
        except YamlError as error:
            problems.append(f"{path}: {text!r} cannot be read as the inside of a list: {error}")
    return _checked(found, problems)


def axes_of(grid: Mapping[str, Iterable[Any]]) -> tuple[Axis, ...]:
    """Axes from a mapping of paths to values. Raises SweepError as `parse_grid` does."""
    problems, found = [], []
    for path, values in grid.items():
        if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
            problems.append(f"{path}: found {values!r}, expected a list of values")
        else:
            found.append((path, [_plain(value) for value in values]))
    return _checked(found, problems)


def combinations(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """Every combination of the axes' values, path -> value; the last axis varies fastest."""
    return [
        dict(zip([axis.path for axis in axes], values, strict=True))
        for values in product(*(axis.values for axis in axes))
    ]


def as_override(path: str, value: Any) -> str:
    """The override that sets a field: JSON is YAML too."""
    return f"{path}={json.dumps(value)}"


def _checked(found: Sequence[tuple[str, Any]], problems: list[str]) -> tuple[Axis, ...]:
    axes: dict[str, Axis] = {}
    for short, values in found:
        path = SHORT.get(short, short)
        written = [json.dumps(value, sort_keys=True) for value in values]
        twice = sorted({text for text in written if written.count(text) > 1})
        if not values:
            problems.append(f"{path}: has no value")
        if twice:
            problems.append(f"{path}: holds {', '.join(twice)} more than once; name each value once")
        if path in FIXED:
            problems.append(f"{path}: cannot be an axis: {FIXED[path]}")
        if path in axes:
            problems.append(f"{path}: stands twice in the grid; name all its values at once")
        axes[path] = Axis(path, tuple(values))
    if not found and not problems:
        problems.append("the grid: found no axis, expected at least one")
    if problems:
        raise SweepError("The grid cannot be used", problems, EXAMPLE)
    return tuple(axes.values())


def _plain(value: Any) -> Any:
    """Tuples as lists, as a file would have them."""
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    return {key: _plain(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value
