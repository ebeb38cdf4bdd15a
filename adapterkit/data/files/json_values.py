"""JSON as this package takes it: nothing that loses or changes a value, and errors in a reader's words."""

import json
from collections import Counter
from typing import Any, NoReturn

WORDS: dict[type, str] = {str: "text", bool: "true or false", list: "a list", dict: "an object", type(None): "null"}
WORDS |= dict.fromkeys((int, float), "a number")  # 1 and 1.5 may share a column; each keeps its own type
"""Type -> what a value of it is, as a reader says it."""


class RefusedError(ValueError):
    """JSON that Python's reader takes but that would lose or change a value."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        raise RefusedError(f"the key {', '.join(map(repr, twice))} stands there twice")
    return found


def _constant(word: str) -> NoReturn:
    raise RefusedError(f"{word} is not a JSON number; write null where a value is missing")


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def word_of(value: Any) -> str:
    """What a value is, as a reader says it."""
    return WORDS.get(type(value), type(value).__name__)


def check_characters(value: Any, text: str) -> None:
    r"""Raise RefusedError where an escape (\ud800) stands for half a surrogate pair, which is no character."""
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise RefusedError("half a surrogate pair, which is no character") from None


def why_not(error: Exception, text: str) -> str:
    """Why a text is no JSON, with the place in its line."""
    if isinstance(error, RefusedError):
        return str(error)
    if not isinstance(error, json.JSONDecodeError):  # nested too deeply; a number with more digits than Python reads
        return f"not usable JSON ({error})"
    before, behind = text[: error.pos].rstrip(), text[error.pos :].lstrip()
    reason = error.msg
    if error.msg == "Extra data" and behind[:1] == ",":
        reason = "a comma behind the object; JSON lines have none"
    elif error.msg == "Extra data" and behind[:1] in "[{":
        reason = "a second value on the line; each has a line of its own"
    elif (behind[:1] in ("}", "]") and before[-1:] == ",") or error.msg.startswith("Illegal trailing comma"):
        reason = "a comma before the closing bracket"
    elif behind[:1] == "'" or before[-1:] == "'":
        reason = "single quotation marks, as Python prints them; JSON has double ones"
    elif behind.startswith(("True", "False", "None")):
        reason = f"{behind.split(',')[0].split('}')[0].strip():.20} is Python; JSON has true, false and null"
    end = "" if behind else ", which is its end"
    return f"not valid JSON ({reason} at character {error.colno}{end})"


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
