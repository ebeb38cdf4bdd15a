"""Where the rows of a JSON object stand: under a key, in columns, or in the object itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapterkit.data.files.dialect import AskedOfFile
from adapterkit.data.files.json_values import word_of
from adapterkit.data.files.squad import is_article
from adapterkit.data.split_names import split_of
from adapterkit.errors import DataError
from adapterkit.recipe.suggestions import did_you_mean

USUAL_KEYS = ("data", "rows", "examples", "records", "items", "instances")
LISTS = {
    *("tokens", "words", "tags", "ner_tags", "pos_tags", "upos", "labels"),
    *("choices", "options", "endings", "messages", "conversations"),
}
"""Columns whose values are lists, so that a list of texts there is one row's."""


@dataclass(frozen=True)
class Shape:
    """What was found in a document."""

    words: str
    """What it is, for the user."""
    records: Sequence[Any]
    """The rows, or what should be some."""
    is_row: bool = False
    """Whether the object is one row itself."""


def find_shape(value: Any, asked: AskedOfFile, source: str) -> Shape:
    """Where the rows of a parsed document are. Raises DataError: nowhere, or in several places."""
    if asked.settings.field is not None:
        return _at_field(value, asked.settings.field, source)
    if not isinstance(value, dict):
        return Shape("JSON objects one behind the other", value if isinstance(value, list) else [value])
    return (
        _split(value, asked.split)
        or _table(value)
        or _under_a_key(value, asked, source)
        or _by_column(value)
        or _by_key(value)
        or Shape("one JSON object", [value], is_row=True)
    )


def _at_field(value: Any, field: str, source: str) -> Shape:
    found = value
    for name in field.split("."):
        if not isinstance(found, dict) or name not in found:
            names = list(map(str, found)) if isinstance(found, dict) else []
            raise DataError(
                f"{source} has no {field}",
                [
                    f"data.field: no key {name!r}{did_you_mean(name, names)}",
                    f"keys found: {', '.join(names) or 'none'}",
                ],
            )
        found = found[name]
    inner = _table(found) or _by_column(found) or _by_key(found) if isinstance(found, dict) else None
    if inner is None and not isinstance(found, list):
        raise DataError(
            f"{source} has no rows at {field}", [f"data.field: found {word_of(found)}, expected a list of objects"]
        )
    return Shape(f"JSON with its rows under {field!r}", found if inner is None else inner.records)


def _objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _under_a_key(value: Mapping[str, Any], asked: AskedOfFile, source: str) -> Shape | None:
    """The rows under `data` or another usual key; under the only key that holds objects."""
    if any(name in asked.columns for name in value):
        return None  # a row may hold lists of objects too: turns of a chat, answers
    lists = [name for name, inner in value.items() if _objects(inner)]
    usual = [name for name in USUAL_KEYS if name in lists]
    if usual:
        records = value[usual[0]]
        if is_article(records[0]):
            version = value.get("version")
            shown = f" {version.removeprefix('v')}" if isinstance(version, str) and len(version) < 10 else ""
            return Shape(f"SQuAD's JSON{shown}", records)
        return Shape(f"JSON with its rows under {usual[0]!r}", records)
    others = [inner for name, inner in value.items() if name not in lists]
    if not lists or any(isinstance(inner, list) for inner in others):
        return None
    if len(lists) == 1:
        return Shape(f"JSON with its rows under {lists[0]!r}", value[lists[0]])
    raise DataError(
        f"{source} holds several lists of objects",
        [f"found: {', '.join(map(repr, lists))}, expected one list of rows"],
        f"Say which holds the rows: data.field={lists[0]}",
    )


def _split(value: Mapping[str, Any], split: str) -> Shape | None:
    """The split that is wanted, where every key is the name of one."""
    if len(value) < 2 or not all(split_of(name) or name == split for name in value):
        return None
    wanted = [name for name in value if name == split] or [name for name in value if split_of(name) == split]
    if len(wanted) != 1 or not _objects(value[wanted[0]]):
        return None
    return Shape(f"JSON with its splits by name, of which {wanted[0]!r} was read", value[wanted[0]])


def _table(value: Mapping[str, Any]) -> Shape | None:
    """pandas' orient="split": columns, and data as lists."""
    columns, data = value.get("columns"), value.get("data")
    if not isinstance(columns, list) or not isinstance(data, list) or not all(isinstance(row, list) for row in data):
        return None
    if len(set(map(str, columns))) < len(columns) or any(len(row) != len(columns) for row in data):
        return None
    names = list(map(str, columns))
    return Shape("JSON of columns and data", [dict(zip(names, row, strict=True)) for row in data])


def _by_column(value: Mapping[str, Any]) -> Shape | None:
    """Lists of equal length by column, or pandas' own: {column: {index: value}}."""
    inner = list(value.values())
    if not inner:
        return None
    if all(isinstance(one, list) for one in inner) and len({len(one) for one in inner}) == 1:
        if any(name in LISTS and not isinstance(one[0], list | dict) for name, one in value.items() if one):
            return None
        return Shape("JSON by columns", [dict(zip(value, row, strict=True)) for row in zip(*inner, strict=True)])
    if not all(isinstance(one, dict) and one for one in inner):
        return None
    indices = inner[0].keys()
    same = all(one.keys() == indices for one in inner)
    if not same or not all(index.lstrip("-").isdecimal() for index in indices):
        return None
    if all(name.isdecimal() for name in value):
        return None
    return Shape("JSON by columns", [{name: value[name][index] for name in value} for index in indices])


def _by_key(value: Mapping[str, Any]) -> Shape | None:
    """Rows by their key: pandas' orient="index", or an object of examples by id, which stays as the column `key`."""
    if len(value) < 2 or not all(isinstance(one, dict) and one for one in value.values()):
        return None
    if all(name.isdecimal() for name in value):
        return Shape("JSON by rows", list(value.values()))
    shared = set.intersection(*(set(one) for one in value.values()))
    if not shared:
        return None
    return Shape("JSON by keys", [{"key": name, **one} for name, one in value.items()])
