"""The points of a sweep: one recipe for every combination of the grid, all of them checked before anything trains."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterkit.errors import RecipeError, SweepError
from adapterkit.recipe import Recipe, resolve
from adapterkit.recipe.formats import backbone_dtypes
from adapterkit.sweeping.grid import SEED, Axis, as_override, combinations

Source = str | Path | Mapping[str, Any] | Recipe

POINTS = "points"
LONGEST_NAME = 120
NAMED = 4
"""Of the points that share a problem, this many are named."""


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    name: str
    """Readable, and the name of its folder."""
    settings: Mapping[str, Any]
    """Path -> value, for every axis of the grid."""
    overrides: tuple[str, ...]
    """Of the recipe; with them `adapterkit train` does the same run."""
    recipe: Recipe
    """What they make of it."""
    output: Path
    """Folder of its artifact."""
    group: str
    """The settings but for the seed, by name; points of one group differ in the seed alone."""


def make_points(source: Source, axes: Sequence[Axis], overrides: Sequence[str], folder: Path) -> tuple[Point, ...]:
    """The points of a grid, in the order of its values.
    Raises RecipeError: points that are no valid recipe; each problem once, with the points that have it; SweepError:
    recipes without validation rows, on which points are compared."""
    every = combinations(axes)
    labels = _labels(axes)
    names = [_name(settings, labels) for settings in every]
    points: list[Point] = []
    wrong: dict[str, list[str]] = {}
    for settings, name in zip(every, names, strict=True):
        output = folder / POINTS / name
        words = (*overrides, *(as_override(path, value) for path, value in settings.items()))
        words = (*words, as_override("output", str(output)))
        try:
            recipe = resolve(source, words).recipe
            backbone_dtypes(recipe)  # raises where it contradicts the precision
        except RecipeError as error:
            for problem in error.problems or (error.summary,):
                wrong.setdefault(problem, []).append(name)
            continue
        group = _name({path: value for path, value in settings.items() if path != SEED}, labels)
        points.append(Point(name, settings, words, recipe, output, group))
    refuse_points(wrong, len(every))
    if any(point.recipe.data.validation is None for point in points):
        raise SweepError(
            "a sweep compares its points on validation rows, and there are none",
            ["data.validation: found null, expected a file or a share of the training rows"],
            "Set it: data.validation=0.1",
        )
    return tuple(points)


def refuse_points(wrong: Mapping[str, Sequence[str]], total: int) -> None:
    """Raise RecipeError if there is any problem. `wrong`: problem -> names of the points that have it."""
    if not wrong:
        return
    problems = []
    for problem, names in wrong.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        whose = "all points" if len(names) == total > 1 else f"{'; '.join(names[:NAMED])}{more}"
        problems.append(f"{problem} [{whose}]")
    count = len({name for names in wrong.values() for name in names})
    raise RecipeError(
        f"{count} of {total} points of the grid cannot be trained; nothing was started",
        problems,
        "Correct the grid, or the recipe.",
    )


def _labels(axes: Sequence[Axis]) -> dict[str, str]:
    """Path -> the shortest end of it that tells it from the others."""
    paths = [axis.path for axis in axes]
    labels = {}
    for path in paths:
        names = path.split(".")
        ends = [".".join(names[-count:]) for count in range(1, len(names) + 1)]
        labels[path] = next((end for end in ends if sum(f".{other}".endswith(f".{end}") for other in paths) == 1), path)
    return labels


def _name(settings: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """As in learning_rate=0.001,rank=4,seed=0: fit for a folder, and different for different settings."""
    whole = ",".join(f"{labels[path]}={shown(value)}" for path, value in settings.items())
    name = re.sub(r"[^\w.=,+-]", "-", whole, flags=re.ASCII)
    if name == whole and len(name) <= LONGEST_NAME:
        return name or "all"
    exact = json.dumps(settings, sort_keys=True).encode()
    return f"{name[: LONGEST_NAME - 9]}-{hashlib.sha256(exact).hexdigest()[:8]}"


def shown(value: Any) -> str:
    """A value for people: 0.001, auto, attention.query+attention.value, null."""
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    if isinstance(value, list):
        return "+".join(shown(inner) for inner in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
