"""JSON as an artifact may hold it: bounded, without surprises, and written with the same bytes every time."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from adapterkit.errors import ArtifactError, plain

MAX_DEPTH = 24
MAX_INTEGER = 2**63 - 1


class _RefusedError(ValueError):
    """Why a JSON text is refused."""


def parse_json(raw: bytes | bytearray, file: str) -> Any:
    """Read one JSON value.

    Refused besides broken JSON: anything but UTF-8, a byte order mark, duplicate keys, NaN and infinities, integers
    beyond 64 bits, lone surrogates, and nesting deeper than `MAX_DEPTH`. The caller has bounded the number of bytes.
    `file`: its name, for the message. Raises ArtifactError: the text is refused.
    """
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        _check_values(value)
        if "\\u" in text:  # only an escape can spell half of a surrogate pair in UTF-8
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"byte {error.start} is not UTF-8"
    except UnicodeEncodeError:
        reason = "a text holds half of a surrogate pair"
    except RecursionError:
        reason = f"nested deeper than {MAX_DEPTH}"
    except json.JSONDecodeError as error:
        reason = f"not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
    except _RefusedError as error:
        reason = str(error)
    except ValueError:  # more digits than Python reads
        reason = "an integer is out of range"
    else:
        return value
    raise ArtifactError(f"{file} cannot be read", [f"{file}: {reason}"])


def parse_object(raw: bytes | bytearray, file: str) -> dict[str, Any]:
    """Read a JSON value that must be an object. Raises ArtifactError."""
    value = parse_json(raw, file)
    if not isinstance(value, dict):
        found = type(value).__name__
        raise ArtifactError(f"{file} cannot be read", [f"{file}: found a {found}, expected an object"])
    return value


def dump_json(value: Any) -> bytes:
    """The one spelling of a value: sorted keys, two spaces, UTF-8, a newline at the end.
    Raises ArtifactError: the value holds NaN, an infinity, or something that is not JSON."""
    try:
        text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
        return (text + "\n").encode("utf-8")
    except (TypeError, ValueError) as error:
        raise ArtifactError("A value cannot be written as JSON", [str(error)]) from error


def shown_json(value: Any, indent: int | None = None) -> str:
    """JSON for a terminal or a file of lines. NaN, which JSON lacks, is null; what steers a terminal is spelled out."""
    text = json.dumps(without_nan(value), ensure_ascii=False, indent=indent, allow_nan=False)
    return plain(text, lambda letter: json.dumps(letter)[1:-1])


def without_nan(value: Any) -> Any:
    """A value as JSON can say it: NaN and infinities, for which it has no word, are null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): without_nan(inner) for key, inner in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [without_nan(inner) for inner in value]
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _RefusedError(f"the key {twice[:80]!r} stands twice in one object")
    return value


def _no_constant(name: str) -> NoReturn:
    raise _RefusedError(f"{name} is not a number")


def _check_values(value: Any) -> None:
    """Refuse numbers that are too large, and nesting that is too deep. It looks at them when all is read: asking about
    each number as it is read takes three times as long."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        kinds = set(map(type, level))
        if float in kinds and not all(math.isfinite(item) for item in level if type(item) is float):
            raise _RefusedError("a number is out of range")
        if int in kinds and abs(largest := max((item for item in level if type(item) is int), key=abs)) > MAX_INTEGER:
            raise _RefusedError(f"the integer {str(largest)[:40]} is out of range")
        if not kinds & {dict, list}:
            return
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict | list):
                inner += item.values() if isinstance(item, dict) else item
        level = inner
    raise _RefusedError(f"nested deeper than {MAX_DEPTH}")
