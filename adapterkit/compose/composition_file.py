"""Compositions in YAML, checked with every mistake at once.

weighted:
  members: {a: runs/a, b: runs/b}
  weights: {a: 0.7, b: 0.3}
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adapterkit.compose.average import Average
from adapterkit.compose.stacked import BLOCKS, CompositionBlock, Stack
from adapterkit.compose.weighted import Weighted
from adapterkit.errors import CompositionError
from adapterkit.recipe.problems import Path as Where
from adapterkit.recipe.problems import readable, show, show_path
from adapterkit.recipe.suggestions import did_you_mean
from adapterkit.recipe.yaml_text import read_yaml

REMEDY = "Correct the lines above; `adapterkit schema composition` prints every field with what it does."


def load_composition(source: str | Path | Mapping[str, Any]) -> Weighted | Average | Stack:
    """Read a composition. `source`: a YAML or JSON file, or a mapping with the same content. Folders in it are relative
    to the working folder. Raises CompositionError: the file cannot be read or is no composition; every mistake is in
    `problems`, with its path, its line and the nearest valid name."""
    if isinstance(source, Mapping):
        return checked(dict(source), "the composition")
    path = Path(source)
    parsed = read_yaml(path, str(path), "composition", CompositionError)
    if not isinstance(parsed.value, dict):
        raise CompositionError(f"{path} holds {show(parsed.value)}; expected one of {', '.join(BLOCKS)}", (), REMEDY)
    return checked(parsed.value, str(path), parsed.lines)


def checked(raw: dict[str, Any], name: str, lines: Mapping[Where, int] | None = None) -> Weighted | Average | Stack:
    """The composition that a mapping describes. Raises CompositionError.
    `name`: where it comes from, for the message. `lines`: path -> line of a file; None where it was no file."""
    try:
        return CompositionBlock.model_validate(raw).given
    except ValidationError as error:
        problems = readable(error, raw, _unknown, lambda _: "")
    problems.sort(key=lambda problem: _line(problem[0], lines or {}) or 0)
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    shown = []
    for where, problem in problems:
        line = _line(where, lines or {})
        path = show_path(where) if where else "the composition"
        shown.append(f"{path}{'' if line is None else f' (line {line})'}: {problem}")
    raise CompositionError(f"{name} is not a valid composition ({count})", shown, REMEDY)


def composition_schema() -> dict[str, Any]:
    """JSON Schema of a composition's file, for editors: every field with its type, default and what it does."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **CompositionBlock.model_json_schema(),
        "title": "adapterkit composition",
    }


def _unknown(where: Where, raw: Any) -> str:
    block = BLOCKS.get(str(where[-2])) if len(where) > 1 else None
    fields = list((block or CompositionBlock).model_fields)
    return "is not a known name" + (did_you_mean(str(where[-1]), fields) or f"; known are {', '.join(fields)}")


def _line(where: Where, lines: Mapping[Where, int]) -> int | None:
    return next((lines[where[:length]] for length in range(len(where), 0, -1) if where[:length] in lines), None)
