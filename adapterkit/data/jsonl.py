"""JSON lines: one object per line, values exactly as written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from adapterkit.data.lines import read_lines
from adapterkit.data.problems import Problems
from adapterkit.data.rows import Numbered

_WORDS = {list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false", type(None): "null"}


class _RefusedError(ValueError):
    """JSON that Python's reader takes but that would lose or change a value."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise _RefusedError(f"the key {', '.join(map(repr, twice))} stands there twice")
    return found


def _constant(word: str) -> NoReturn:
    raise _RefusedError(f"{word} is not a JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def read_jsonl(path: Path, problems: Problems) -> Iterator[Numbered]:
    """The objects of a JSON-lines file, plain or gzip; blank lines are passed over.

    A line that is not one JSON object, that repeats a key, or that holds NaN, Infinity or half a surrogate pair is a
    problem with its line number.
    """
    for number, line in read_lines(path, "JSON lines (one object per line)", problems):
        if not line or line.isspace():
            continue
        found = parse_object(line)
        if isinstance(found, str):
            problems.add(f"line {number}", found)
        else:
            yield number, found


def parse_object(line: str) -> dict[str, Any] | str:
    """The JSON object of a line, or what is wrong with the line."""
    try:
        value = _DECODER.decode(line)
        if "\\ud" in line or "\\uD" in line:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        return f"not valid JSON ({error.msg} at character {error.colno})"
    except UnicodeEncodeError:
        return "half a surrogate pair, which is no character"
    except _RefusedError as error:
        return str(error)
    except (RecursionError, ValueError) as error:  # nested too deeply; an integer with more digits than Python reads
        return f"not usable JSON ({error})"
    if isinstance(value, dict):
        return value
    return f'expected an object like {{"text": …}}, found {_WORDS[type(value)]}'
