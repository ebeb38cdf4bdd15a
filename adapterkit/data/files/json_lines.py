"""JSON lines: one object per line, values exactly as written."""

from collections.abc import Iterator
from typing import Any

from adapterkit.data.files.json_values import DECODER, check_characters, why_not, word_of
from adapterkit.data.files.text import TextFile
from adapterkit.data.problems import Problems
from adapterkit.data.rows import Numbered


def read_json_lines(file: TextFile, problems: Problems) -> Iterator[Numbered]:
    """The objects of a JSON-lines file; blank lines are passed over.

    A line that is not one JSON object, that repeats a key, or that holds NaN, Infinity or half a surrogate pair is a
    problem with its line number.
    """
    for number, line in file.lines(problems):
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
        value = DECODER.decode(line)
        check_characters(value, line)
    except (ValueError, RecursionError) as error:
        return why_not(error, line)
    if isinstance(value, dict):
        return value
    return f'expected an object like {{"text": …}}, found {word_of(value)}'
