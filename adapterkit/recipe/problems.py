"""Validate a recipe's raw mapping, and say everything that is wrong with it at once."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from adapterkit.errors import RecipeError
from adapterkit.recipe.data import DataSettings
from adapterkit.recipe.kinds import BELONGS, KINDS
from adapterkit.recipe.schema import HEAD, METHOD, BackboneSettings, Recipe, together
from adapterkit.recipe.settings import SettingsError, foreign
from adapterkit.recipe.suggestions import did_you_mean, nearest, one_of
from adapterkit.recipe.table import OfKind
from adapterkit.recipe.task import TaskSettings
from adapterkit.recipe.training import TrainingSettings

Path = tuple[str | int, ...]
Problem = tuple[Path, str]
Block = TypeVar("Block", bound=BaseModel)

BLOCKS: dict[str, type[BaseModel]] = {
    "task": TaskSettings,
    "backbone": BackboneSettings,
    "data": DataSettings,
    "training": TrainingSettings,
}
CHOSEN: dict[str, OfKind[Any]] = {"method": METHOD, "head": HEAD}
"""Blocks whose settings are those of their kind."""
REMEDY = "Correct the lines above; `adapterkit schema` prints every field with what it does."
LONGEST_SHOWN = 60


def check(raw: Mapping[str, Any], name: str, origins: Mapping[Path, str], problems: Sequence[Problem] = ()) -> Recipe:
    """The recipe that `raw` describes; `origins`: where a path was written ("line 3"), `problems`: those known already.

    Raises RecipeError: every mistake is in `problems`, with its path.
    """
    problems = list(problems)
    try:
        recipe = Recipe.model_validate(raw)
        if not problems:
            return recipe
    except ValidationError as error:
        problems += readable(error, raw)
    known = {path for path, _ in problems}
    problems += [problem for problem in (*_foreign(raw), *_between_blocks(raw)) if problem[0] not in known]
    order = {path: position for position, path in enumerate(origins)}
    problems.sort(key=lambda problem: order.get(problem[0], order.get(problem[0][:1], len(order))))
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [f"{show_path(path)}{_origin(path, origins)}: {problem}" for path, problem in problems]
    raise RecipeError(f"{name} is not a valid recipe ({count})", lines, REMEDY)


def fields_of(raw: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """Block -> the names that it may hold, "" -> the blocks."""
    blocks = {name: frozenset(_fields((name, ""), raw)) for name in (*BLOCKS, *CHOSEN)}
    return {"": frozenset(Recipe.model_fields), **blocks}


def is_switch(path: str) -> bool:
    """Whether a field is true or false, of any kind of its block."""
    block, _, name = path.partition(".")
    models = CHOSEN[block].table.values() if block in CHOSEN else [BLOCKS[block]] if block in BLOCKS else []
    return any(model.model_fields[name].annotation is bool for model in models if name in model.model_fields)


def show_path(path: Path) -> str:
    """("method", "sites", 1) as a reader writes it: method.sites[1]."""
    shown = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return shown.removeprefix(".") or "the recipe"


def _origin(path: Path, origins: Mapping[Path, str]) -> str:
    for length in range(len(path), 0, -1):
        if path[:length] in origins:
            return f" ({origins[path[:length]]})"
    inside = next((origin for known, origin in origins.items() if known[: len(path)] == path), None)
    return f" ({inside})" if inside else ""


def readable(
    error: ValidationError,
    raw: Mapping[str, Any],
    unknown: Callable[[Path, Mapping[str, Any]], str] | None = None,
    needed: Callable[[Path], str] | None = None,
) -> list[Problem]:
    """pydantic's errors by path, those of the branches of one union joined by "or".
    `unknown`: what is said of a name that is not known; that of a recipe by itself. `needed`: what is said behind "is
    missing"; that of a recipe by itself."""
    expected: dict[Path, list[str]] = {}
    whole: list[Problem] = []
    found: dict[Path, Any] = {}
    details = [(_path(detail["loc"], raw, detail["type"]), detail) for detail in error.errors(include_url=False)]
    paths = {path for path, _ in details}
    for path, detail in details:
        problem = (detail.get("ctx") or {}).get("error")
        if isinstance(problem, SettingsError):
            whole += [((*path, *filter(None, where.split("."))), what) for where, what in problem.problems]
        elif detail["type"] == "extra_forbidden":
            whole.append((path, (unknown or _unknown)(path, raw)))
        elif detail["type"] == "missing":
            whole.append((path, "is missing" + (needed or _needed)(path)))
        elif not any(other != path and other[: len(path)] == path for other in paths):
            found[path] = detail["input"]
            expected.setdefault(path, [])
            phrase = _expected(detail)
            if phrase not in expected[path]:
                expected[path].append(phrase)
    for path, phrases in expected.items():
        value = found[path]
        hint = _hint(value, phrases)
        whole.append((path, f"found {show(value)}, expected {' or '.join(phrases)}{hint}"))
    return whole


def _path(location: Iterable[str | int], raw: Any, kind: str) -> Path:
    """The path in the recipe, without what pydantic adds for the branches of unions."""
    path: list[str | int] = []
    value = raw
    keys = list(location)
    for position, key in enumerate(keys):
        last = position == len(keys) - 1
        if isinstance(value, Mapping) and (key in value or (last and kind == "missing")):
            path.append(key)
            value = value.get(key)
        elif isinstance(value, list | tuple) and isinstance(key, int) and key < len(value):
            path.append(key)
            value = value[key]
    return tuple(path)


def _fields(path: Path, raw: Mapping[str, Any]) -> list[str]:
    """Valid names of the block in which `path` stands."""
    if len(path) == 1:
        return list(Recipe.model_fields)
    block = BLOCKS.get(str(path[0]))
    if path[0] in CHOSEN:
        block = CHOSEN[str(path[0])].table[_kind(str(path[0]), raw)]
    for name in path[1:-1]:
        field = block.model_fields.get(str(name)) if block else None
        inner = () if field is None else get_args(field.annotation)
        block = next((one for one in inner if isinstance(one, type) and issubclass(one, BaseModel)), None)
    return list(block.model_fields) if block else []


def _kind(name: str, raw: Mapping[str, Any]) -> str:
    """The kind of a block; the default one where it says none that is known."""
    block, chosen = raw.get(name), CHOSEN[name]
    kind = block.get("kind") if isinstance(block, Mapping) else None
    return kind if isinstance(kind, str) and kind in chosen.table else chosen.default


def _unknown(path: Path, raw: Mapping[str, Any]) -> str:
    name, fields = str(path[-1]), _fields(path, raw)
    close = nearest(name, fields)
    homes = [f"{block}.{name}" for block, model in BLOCKS.items() if name in model.model_fields]
    for block, chosen in CHOSEN.items():
        own = [kind for kind, model in chosen.table.items() if name in model.model_fields]
        if own and path[0] == block and len(path) == 2:
            return f"belongs to {block}.kind {' and '.join(own)}, not to {_kind(block, raw)}; remove it"
        homes += [f"{block}.{name} (kind {kind})" for kind in own]
    if close:
        return f"is not a known name; did you mean {close}?"
    if homes:
        return f"is not a known name here; did you mean {' or '.join(homes)}?"
    return f"is not a known name; known are {', '.join(fields)}"


def _needed(path: Path) -> str:
    needed: dict[Path, str] = {
        ("task", "kind"): f"; expected {one_of(KINDS)}",
        ("backbone", "name"): "; expected a hub id or a folder",
    }
    return needed.get(path, "; every recipe needs it" if len(path) == 1 else "")


def _foreign(raw: Mapping[str, Any]) -> list[Problem]:
    """Task settings of another kind, found even where the block has other mistakes."""
    task = raw.get("task")
    if not isinstance(task, Mapping) or task.get("kind") not in KINDS:
        return []
    return [(("task", name), problem) for name, problem in foreign(task, BELONGS, task["kind"])]


def _between_blocks(raw: Mapping[str, Any]) -> list[Problem]:
    """Mistakes between those blocks that are right by themselves."""
    task, head = _valid(TaskSettings.model_validate, raw, "task"), _valid(HEAD, raw, "head")
    data = _valid(DataSettings.model_validate, raw, "data")
    training = _valid(TrainingSettings.model_validate, raw, "training")
    found = together(task, head, data, training, _valid(METHOD, raw, "method"))
    return [(tuple(path.split(".")), problem) for path, problem in found]


def _valid(read: Callable[[Any], Block], raw: Mapping[str, Any], name: str) -> Block | None:
    try:
        return read(raw[name]) if name in raw else None
    except ValueError:  # pydantic's own errors are such
        return None


def _at(sign: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda context: f"a number {sign} {next(iter(context.values()))}"


_EXPECTED: dict[str, str | Callable[[Mapping[str, Any]], str]] = {
    **dict.fromkeys(("int_type", "int_from_float"), "a whole number"), "int_parsing_size": "a smaller number",
    "float_type": "a number", "finite_number": "a finite number", "bool_type": "true or false",
    "string_type": "text", "string_too_short": "text that is not empty", "invalid_key": "a name that is text",
    "tuple_type": "a list", "dict_type": "a mapping",
    **dict.fromkeys(("model_type", "model_attributes_type"), "a block of settings"),
    "too_short": lambda context: f"at least {context['min_length']} of them",
    "greater_than": _at(">"), "greater_than_equal": _at("≥"), "less_than": _at("<"), "less_than_equal": _at("≤"),
}  # fmt: skip


def _expected(detail: Mapping[str, Any]) -> str:
    context = detail.get("ctx") or {}
    if detail["type"] == "literal_error":
        return str(context["expected"]).replace("'", "").replace("True", "true").replace("False", "false")
    phrase = _EXPECTED.get(detail["type"], str(detail["msg"]))
    return phrase if isinstance(phrase, str) else phrase(context)


def _hint(value: Any, phrases: list[str]) -> str:
    if isinstance(value, str):
        if any("true or false" in phrase for phrase in phrases) and value.lower() in ("yes", "no", "on", "off"):
            return f"; write {str(value.lower() in ('yes', 'on')).lower()}"
        if any(phrase.startswith(("a number", "a whole number")) for phrase in phrases) and _is_number(value):
            return "; remove the quotes"
        words = [word for phrase in phrases for word in re.split(r", | or ", phrase)]
        return did_you_mean(value, words)
    if phrases == ["text"] and isinstance(value, bool | int | float):
        return "; put it in quotes"
    return ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def show(value: Any) -> str:
    """A value as YAML has it, cut to one short line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    shown = repr(value)
    return shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}…"
