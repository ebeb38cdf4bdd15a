"""JSON documents: an array of objects, or one object with the rows inside; arrays are read piece by piece."""

import json
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from adapterkit.data.files.dialect import AskedOfFile, Opened
from adapterkit.data.files.json_shapes import find_shape
from adapterkit.data.files.json_values import DECODER, RefusedError, check_characters, parse_object, why_not, word_of
from adapterkit.data.files.squad import flatten, is_article
from adapterkit.data.files.text import LONGEST_LINE_BYTES, TextFile
from adapterkit.data.problems import Problems
from adapterkit.data.rows import Numbered
from adapterkit.errors import DataError
from adapterkit.recipe import DataSettings

LARGEST_DOCUMENT_CHARACTERS = 2**29
"""An object around all rows is held in memory as a whole; an array and JSON lines are not."""

_SPACE = " \t\n\r"


def open_json(file: TextFile, asked: AskedOfFile, format_: str = "json", *, told: bool = False) -> Opened:
    """A JSON file, ready to be read: lines, an array, or an object that holds the rows.

    `format_` "jsonl": each line is a row, even a single one. Raises DataError: an object in which no rows are found, or
    a document that is too large.
    """
    start, notes = file.head.lstrip(_SPACE)[:1], tuple(file.notes)
    if asked.settings.field is None and (start not in ("[", "{") or _in_lines(file, format_)):
        return Opened("JSON lines", partial(_read_lines, file.bare), notes, told or bool(notes))
    if start == "[" and asked.settings.field is None:
        try:
            first = DECODER.raw_decode(file.head.lstrip(_SPACE)[1:].lstrip(_SPACE))[0]
        except (ValueError, RecursionError):
            first = None
        name = "SQuAD's JSON" if is_article(first) else "a JSON array"
        bare = file.bare
        return Opened(name, lambda problems: _objects(_items(bare, problems), problems), notes, True, "record")
    shape = find_shape(_parse(file), asked, str(file.path))
    rows = partial(_objects, [(value, "") for value in shape.records])
    return Opened(shape.words, rows, notes, True, "record")


def _in_lines(file: TextFile, format_: str) -> bool:
    """Whether every line is a value by itself, and not a piece of one."""
    head = file.head.replace("\r", "\n").strip(_SPACE)
    if head.startswith("[") and "\n" not in head:
        return False
    filled = filter(None, (line.strip(_SPACE) for _, line in file.lines(Problems(""))))
    try:
        first, second = next(filled, ""), next(filled, "")
    except DataError:  # a line that is too long to be held: a document, or an error that names it
        return format_ == "jsonl" and not head.startswith("[")
    value = _value(first)
    if not second:
        if not isinstance(value, dict):
            return False
        shape = find_shape(value, AskedOfFile(DataSettings()), str(file.path))
        return shape.is_row or (format_ == "jsonl" and not shape.words.startswith("SQuAD"))
    if value is not None:
        return True
    if first.startswith("[") or not _is_begun(first):
        return not first.startswith("[")
    return first[-1] not in "[{,:" and isinstance(_value(second), dict)


def _value(line: str) -> Any:
    try:
        return DECODER.decode(line)
    except (ValueError, RecursionError):
        return None


def _is_begun(line: str) -> bool:
    """Whether a line is the beginning of a value that goes on in the next."""
    try:
        DECODER.decode(line)
    except json.JSONDecodeError as error:
        return error.pos >= len(line.rstrip()) and not error.msg.startswith("Unterminated string")
    except (ValueError, RecursionError):
        pass
    return False


def _read_lines(file: TextFile, problems: Problems) -> Iterator[Numbered]:
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


def _objects(values: Iterable[tuple[Any, str]], problems: Problems) -> Iterator[Numbered]:
    """The objects among values, each with words for its place, numbered from 1; articles as their questions."""
    number = 0
    for place, (value, where) in enumerate(values, start=1):
        if isinstance(value, dict) and is_article(value):
            for row in flatten(value, f"article {place}", problems):
                number += 1
                yield number, row
            continue
        number += 1
        if isinstance(value, dict):
            yield number, value
        elif isinstance(value, RefusedError):
            problems.add(f"record {number}", f"{where}{value}")
        else:
            problems.add(f"record {number}", f'{where}expected an object like {{"text": …}}, found {word_of(value)}')


def _items(file: TextFile, problems: Problems) -> Iterator[tuple[Any, str]]:
    """Every item of the array, and words for its line; more of the file is read when one is not complete.
    A broken one ends it: where the next begins cannot be known."""
    pieces = file.pieces()
    text, at, line, ended = "", 0, 1, False

    def more(at_least: int = 1) -> None:
        nonlocal text, at, ended
        gained = [text[at:]]
        while at_least > 0 and not ended:
            piece = next(pieces, None)
            ended = piece is None
            gained.append(piece or "")
            at_least -= len(piece or "")
        text, at = "".join(gained), 0

    def skip() -> str:
        """Pass over space. Returns the next character, or "" at the end."""
        nonlocal at, line
        while True:
            start = at
            while at < len(text) and text[at] in _SPACE:
                at += 1
            line += text.count("\n", start, at)
            if at < len(text) or ended:
                return text[at : at + 1]
            more()

    def wrong(problem: str) -> None:
        problems.add(f"line {line}", problem)

    skip()
    at += 1
    separator = skip()
    if separator == "]":
        at += 1
    while separator != "]":
        try:
            value, stop = DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            if isinstance(error, json.JSONDecodeError) and not ended:
                if len(text) - at > LONGEST_LINE_BYTES:
                    return wrong(f"a record of more than {LONGEST_LINE_BYTES:,} characters, expected at most that")
                more(len(text) - at)
                continue
            start = at
            if isinstance(error, json.JSONDecodeError):
                line += text.count("\n", at, error.pos)
                start = text.rfind("\n", 0, error.pos) + 1
                error = json.JSONDecodeError(error.msg, text[start:], error.pos - start)
            return wrong(why_not(error, text[start:]))
        try:
            check_characters(value, text[at:stop])
        except RefusedError as error:
            value = error
        yield value, f"on line {line}, "
        line += text.count("\n", at, stop)
        at = stop
        separator = skip()
        at += 1
        if separator == ",":
            if skip() == "]":
                return wrong("not valid JSON (a comma before the closing bracket)")
        elif separator != "]":
            found = f"{separator!r}" if separator else "the end of the file, so it was cut off"
            return wrong(f"not valid JSON (expected a comma or ] behind a record, found {found})")
    if found := skip():
        wrong(f"not valid JSON ({found!r} behind the array's end)")


def _parse(file: TextFile) -> Any:
    """The one value of a document; several objects one behind the other become a list of them."""
    held, size = [], 0
    for piece in file.pieces():
        size += len(piece)
        if size > LARGEST_DOCUMENT_CHARACTERS:
            raise DataError(
                f"{file.path} is too large for one JSON object",
                [f"found: more than {LARGEST_DOCUMENT_CHARACTERS:,} characters, expected at most that"],
                "Write the rows as JSON lines, or as an array: these are read piece by piece.",
            )
        held.append(piece)
    text = "".join(held).strip(_SPACE)
    values, at = [], 0
    try:
        while at < len(text):
            value, at = DECODER.raw_decode(text, at)
            check_characters(value, text)
            values.append(value)
            while at < len(text) and text[at] in _SPACE:
                at += 1
    except (ValueError, RecursionError) as error:
        line = text.count("\n", 0, getattr(error, "pos", 0)) + 1
        rest = text if not isinstance(error, json.JSONDecodeError) else text[: error.pos + 40]
        raise DataError(f"{file.path} cannot be read", [f"line {line}: {why_not(error, rest)}"]) from error
    return values[0] if len(values) == 1 else values
