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
from adapterkit.compose.file_schema import (
    BLOCKS,
    AverageBlock,
    CompositionBlock,
    StackBlock,
    WeightedBlock,
)
from adapterkit.compose.members import chosen_heads
from adapterkit.compose.stacked import Stack, Stackable, offered_by
from adapterkit.compose.weighted import Weighted
from adapterkit.errors import AdapterkitError, CompositionError
from adapterkit.recipe.problems import Path as Where
from adapterkit.recipe.problems import readable, show, show_path
from adapterkit.recipe.suggestions import did_you_mean
from adapterkit.recipe.yaml_text import read_yaml

REMEDY = "Correct the lines above; `adapterkit schema composition` prints every field with what it does."

Lines = Mapping[Where, int]


def load_composition(source: str | Path | Mapping[str, Any]) -> Weighted | Average | Stack:
    """Read a composition. `source`: a YAML or JSON file, or a mapping with the same content. Folders in it are relative
    to the working folder. Raises CompositionError: the file cannot be read or is no composition; every mistake is in
    `problems`, with its path, its line and the nearest valid name."""
    if isinstance(source, Mapping):
        return _checked(dict(source), "the composition", {})
    path = Path(source)
    parsed = read_yaml(path, str(path), "composition", CompositionError)
    if not isinstance(parsed.value, dict):
        raise CompositionError(f"{path} holds {show(parsed.value)}; expected one of {', '.join(BLOCKS)}", (), REMEDY)
    return _checked(parsed.value, str(path), parsed.lines)


def _checked(raw: dict[str, Any], name: str, lines: Lines) -> Weighted | Average | Stack:
    try:
        block = CompositionBlock.model_validate(raw)
    except ValidationError as error:
        problems = readable(error, raw, _unknown, lambda _: "")
    else:
        problems = []
        composition = _composition(block, (), problems)
        if composition is not None and not problems:
            return composition
    problems.sort(key=lambda problem: _line(problem[0], lines) or 0)
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    shown = [
        f"{show_path(where) if where else 'the composition'}{_origin(where, lines)}: {problem}"
        for where, problem in problems
    ]
    raise CompositionError(f"{name} is not a valid composition ({count})", shown, REMEDY)


# -- from blocks to compositions


def _composition(
    block: CompositionBlock, where: Where, problems: list[tuple[Where, str]]
) -> Weighted | Average | Stack | None:
    """The composition of a block; None where it makes no sense, which is added to `problems`."""
    kind, inner = next((name, found) for name in BLOCKS if (found := getattr(block, name)) is not None)
    where = (*where, kind)
    if inner.head is not None and inner.heads is not None:
        problems.append(((*where, "heads"), "stands beside head; give one of the two"))
        return None
    if inner.heads is not None and not inner.heads:
        problems.append(((*where, "heads"), "is empty; name at least one member"))
        return None
    before = len(problems)
    try:
        if isinstance(inner, StackBlock):
            return _stack(inner, where, problems)
        return _of_weights(inner, where, problems)
    except AdapterkitError as error:
        if len(problems) == before:
            for problem in error.problems:
                field, _, what = problem.partition(": ")
                problems.append(((*where, *field.split(".", 1)), what))
    return None


def _of_weights(
    block: WeightedBlock | AverageBlock, where: Where, problems: list[tuple[Where, str]]
) -> Weighted | Average | None:
    given = block.members
    members = tuple(given.items()) if isinstance(given, dict) else tuple((name, name) for name in given)
    names = [name for name, _ in members]
    weights = dict.fromkeys(names, 1.0) if block.weights is None else block.weights
    missing = [name for name in names if name not in weights]
    for name in weights.keys() - set(names):
        hint = did_you_mean(name, names)
        problems.append(((*where, "weights", name), f"is not a member; members are {', '.join(names)}{hint}"))
    problems += [((*where, "weights"), f"lacks {name!r}; write 0 to leave a member out") for name in missing]
    if missing or len(weights) != len(names):
        return None
    heads = chosen_heads(block.head, block.heads, names[:1])
    ordered = tuple(weights[name] for name in names)
    if isinstance(block, AverageBlock):
        return Average(members, ordered, heads)
    return Weighted(members, ordered, heads, block.how, block.rank, block.density, block.seed)


def _stack(block: StackBlock, where: Where, problems: list[tuple[Where, str]]) -> Stack | None:
    members: list[tuple[str, str | Stackable]] = []
    raw = block.members if isinstance(block.members, dict) else {name: name for name in block.members}
    before = len(problems)
    for name, source in raw.items():
        inner = source if isinstance(source, str) else _composition(source, (*where, "members", name), problems)
        if inner is not None:
            members.append((name, inner))
    if len(problems) > before:
        return None
    if not isinstance(block.members, dict) and len(raw) != len(block.members):
        problems.append(((*where, "members"), "names a member twice"))
        return None
    last = offered_by(*members[-1]) if members else ()
    return Stack(tuple(members), chosen_heads(block.head, block.heads, last))


# -- from pydantic's findings to lines that a reader can act on


def _unknown(where: Where, raw: Any) -> str:
    block = BLOCKS.get(str(where[-2])) if len(where) > 1 else None
    fields = list((block or CompositionBlock).model_fields)
    known = f"; known are {', '.join(fields)}"
    return f"is not a known name{did_you_mean(str(where[-1]), fields) or known}"


def _line(where: Where, lines: Lines) -> int | None:
    return next((lines[where[:length]] for length in range(len(where), 0, -1) if where[:length] in lines), None)


def _origin(where: Where, lines: Lines) -> str:
    line = _line(where, lines)
    return f" (line {line})" if line is not None else ""
