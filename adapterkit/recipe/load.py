"""Load a recipe: from a file, by the name it ships under, from an artifact, or from a mapping."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from adapterkit.errors import RecipeError
from adapterkit.recipe import problems
from adapterkit.recipe.neighbours import translate
from adapterkit.recipe.overrides import COMMAND_LINE, override
from adapterkit.recipe.schema import Recipe
from adapterkit.recipe.shipped import shipped_recipes
from adapterkit.recipe.suggestions import nearest
from adapterkit.recipe.yaml_text import DEEPEST, read_yaml

MANIFEST = "adapterkit.json"
LARGEST_MANIFEST_BYTES = 64_000_000

logger = logging.getLogger("adapterkit")


@dataclass(frozen=True)
class Resolved:
    """A recipe, what to call it, and what the overrides changed beyond what they say."""

    recipe: Recipe
    name: str
    notes: tuple[str, ...] = ()


class _Raw(NamedTuple):
    """What a source says, before it is validated."""

    raw: dict[str, Any]
    name: str
    origins: Mapping[problems.Path, str] = {}
    notes: Sequence[str] = ()
    output: str | None = None


def load_recipe(source: str | Path | Mapping[str, Any] | Recipe, overrides: Sequence[str] = ()) -> Recipe:
    """Load and validate a recipe.

    Args:
        source: a YAML or JSON file, the name of a shipped recipe ("banking77"), the folder of an artifact (the recipe
            that trained it), a mapping, or a recipe.
        overrides: "path=value" each, set on top of the source: "training.learning_rate=1e-3".

    Raises:
        RecipeError: the file cannot be read or is no valid recipe; every mistake is in `problems`, with its path, its
            line and the nearest valid name.
    """
    resolved = resolve(source, overrides)
    for note in resolved.notes:
        logger.warning(note)
    return resolved.recipe


def resolve(source: str | Path | Mapping[str, Any] | Recipe, overrides: Sequence[str] = ()) -> Resolved:
    """As `load_recipe`, and hands the notes back instead of logging them."""
    read = _read(source)
    changed = override(read.raw, overrides)
    origins = dict(read.origins)
    for path in changed.set_paths:
        origins = {known: origin for known, origin in origins.items() if known[: len(path)] != path}
        origins[path] = COMMAND_LINE
    notes, foreign = translate(changed.raw, problems.fields_of(changed.raw))
    if read.output is not None:
        changed.raw.setdefault("output", read.output)
    try:
        recipe = problems.check(changed.raw, read.name, origins, foreign)
    except RecipeError as error:
        if not changed.problems:
            raise
        found = (*changed.problems, *error.problems)
        raise RecipeError(f"{read.name} is not a valid recipe ({len(found)} problems)", found, error.remedy) from error
    if changed.problems:
        raise RecipeError("The overrides cannot be applied", changed.problems, problems.REMEDY)
    return Resolved(recipe, read.name, (*read.notes, *changed.notes, *notes))


def folder_of(recipe: str | Path | Mapping[str, Any] | Recipe) -> Path | None:
    """The folder of a recipe's file, where relative paths are looked for too."""
    return Path(recipe).parent if isinstance(recipe, str | Path) and os.path.isfile(recipe) else None


def recipe_schema() -> dict[str, Any]:
    """JSON Schema of a recipe file, for editors: every field with its type, bounds, default and what it does."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Recipe.model_json_schema(),
        "title": "adapterkit recipe",
    }


def _read(source: str | Path | Mapping[str, Any] | Recipe) -> _Raw:
    if isinstance(source, Recipe):
        return _Raw(source.to_dict(), "the recipe")
    if isinstance(source, Mapping):
        return _Raw(_plain(source, ()), "the recipe")
    if not isinstance(source, str | Path):
        raise RecipeError(f"A recipe is a path, a name, a mapping or a Recipe, not {type(source).__name__}")
    path = Path(source)
    if os.path.isfile(path / MANIFEST):
        return _of_artifact(path)
    if not os.path.isfile(path):
        path = _shipped(str(source))
    return _of_file(path, str(source))


def _of_file(path: Path, name: str) -> _Raw:
    parsed = read_yaml(path, name, "recipe", RecipeError)
    if not isinstance(parsed.value, dict):
        what = "is empty" if parsed.value is None else f"holds {problems.show(parsed.value)}"
        raise RecipeError(f"{name} {what}; expected the blocks task, backbone and data", (), problems.REMEDY)
    origins: dict[problems.Path, str] = {path: f"line {line}" for path, line in parsed.lines.items() if path}
    return _Raw(parsed.value, name, origins, output=f"runs/{path.stem}")


def _of_artifact(folder: Path) -> _Raw:
    """The recipe that an artifact keeps. Nothing read from an artifact can turn trust_remote_code on."""
    file = folder / MANIFEST
    try:
        if file.stat().st_size > LARGEST_MANIFEST_BYTES:
            raise RecipeError(f"{file} is larger than {LARGEST_MANIFEST_BYTES:,} bytes", (), "It is not a manifest.")
        manifest = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError(f"{file} cannot be read", [str(error)], f"Try adapterkit verify {folder}") from error
    kept = manifest.get("recipe") if isinstance(manifest, dict) else None
    if not isinstance(kept, dict):
        raise RecipeError(f"{folder} keeps no recipe", (), "It was not trained by adapterkit; name a recipe file.")
    raw, notes = _plain(kept, ()), []
    backbone = raw.get("backbone")
    if isinstance(backbone, dict) and backbone.pop("trust_remote_code", False) is not False:
        notes.append("backbone.trust_remote_code is off: an artifact cannot turn it on (set it on the command line)")
    return _Raw(raw, f"the recipe of {folder}", notes=notes)


def _shipped(name: str) -> Path:
    shipped = {recipe.name: recipe.path for recipe in shipped_recipes()}
    if name in shipped:
        return shipped[name]
    stem = Path(name).stem
    close = stem if stem in shipped else nearest(stem, shipped)
    remedy = f"Did you mean the shipped recipe {close}? `adapterkit train {close}`" if close else ""
    known = f"shipped with adapterkit: {', '.join(shipped)}" if shipped else "no recipes ship with this installation"
    raise RecipeError(f"{name} is not a file, and no recipe of that name ships with adapterkit", [known], remedy)


def _plain(value: Any, path: tuple[str, ...]) -> Any:
    """Mappings as dicts, sequences as lists and paths as text, as a file would have them."""
    if len(path) > DEEPEST:
        raise RecipeError(f"The recipe is nested deeper than {DEEPEST} levels", [".".join(path)], "A recipe has 3.")
    if isinstance(value, Mapping):
        wrong = [
            f"{'.'.join((*path, repr(key)))}: expected a name that is text" for key in value if type(key) is not str
        ]
        if wrong:
            raise RecipeError("The recipe has keys that are not text", wrong, problems.REMEDY)
        return {key: _plain(inner, (*path, key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, (*path, str(place))) for place, inner in enumerate(value)]
    return str(value) if isinstance(value, Path) else value
