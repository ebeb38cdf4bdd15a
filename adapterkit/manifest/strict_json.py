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
        value = _read_fast(text)
        if value is None:
            value = json.loads(
                text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite, parse_int=_bounded
            )
            _check_depth(value)
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


def _read_fast(text: str) -> Any:
    """A value that holds nothing to be refused; None where it may hold such, which the slow way then finds and names.

    Numbers are looked at when all is read: asking about each one as it is read takes three times as long.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    level = [value]
    for _ in range(MAX_DEPTH):
        kinds = [item.__class__ for item in level]
        if float in kinds and not all(map(math.isfinite, (item for item in level if item.__class__ is float))):
            return None
        if int in kinds:
            numbers = [item for item in level if item.__class__ is int]
            if max(numbers) > MAX_INTEGER or min(numbers) < -MAX_INTEGER:
                return None
        inner: list[Any] = []
        if dict in kinds or list in kinds:
            for item in level:
                if item.__class__ is dict:
                    inner += item.values()
                elif item.__class__ is list:
                    inner += item
        if not inner:
            return value
        level = inner
    return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _RefusedError(f"the key {twice[:80]!r} stands twice in one object")
    return value


def _no_constant(name: str) -> NoReturn:
    raise _RefusedError(f"{name} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _RefusedError(f"the number {text[:40]} is out of range")
    return value


def _bounded(text: str) -> int:
    if len(text) > 20 or abs(int(text)) > MAX_INTEGER:
        raise _RefusedError(f"the integer {text[:40]} is out of range")
    return int(text)


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [item for item in level if isinstance(item, dict | list)]
        if not level:
            return
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    raise _RefusedError(f"nested deeper than {MAX_DEPTH}")
