"""What the columns of rows hold."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from adapterkit.data import Rows, canonical

LOOKED_AT = 5_000
"""Rows from which a column is judged, spread over all."""


@dataclass(frozen=True)
class Seen:
    """One column: of the `rows` that were looked at those that are `filled`, and how many values are `distinct`."""

    name: str
    holds: str
    """ "text", "number", "true or false", "list of texts", "list of numbers", "list of objects", "list", "object",
    "nothing", or "several types"."""
    filled: int
    distinct: int
    words: float
    """Mean words of its texts."""
    rows: int
    keys: frozenset[str] = frozenset()
    """The keys of its objects, or of those in its lists."""

    @property
    def is_text(self) -> bool:
        """Whether every value is text."""
        return self.holds == "text"

    @property
    def repeats(self) -> bool:
        """Whether values come again and again, as those of labels do."""
        return 0 < self.distinct <= max(2, min(self.filled // 2, 1_000))


def look_at(rows: Rows) -> dict[str, Seen]:
    """Every column by name."""
    step = max(1, len(rows) // LOOKED_AT)
    sample = [rows[index] for index in range(0, len(rows), step)]
    return {name: _seen(name, [row.get(name) for row in sample]) for name in rows.columns}


def _seen(name: str, values: list[Any]) -> Seen:
    there = [value for value in values if value is not None]
    kinds = {_holds(value) for value in there} - {"list"} or {_holds(value) for value in there}
    texts = [value for value in there if isinstance(value, str)]
    words = sum(len(text.split()) for text in texts) / len(texts) if texts else 0.0
    inner = [item for value in there for item in (value if isinstance(value, list) else [value])]
    keys = frozenset(key for item in inner if isinstance(item, dict) for key in item)
    holds = "nothing" if not kinds else next(iter(kinds)) if len(kinds) == 1 else "several types"
    return Seen(name, holds, len(there), len(set(map(canonical, there))), words, len(values), keys)


def _holds(value: Any) -> str:
    if isinstance(value, list):
        inner = {_holds(item) for item in value}
        named = {"text": "list of texts", "number": "list of numbers", "object": "list of objects"}
        return named.get(next(iter(inner)), "list") if len(inner) == 1 else "list"
    if isinstance(value, bool):
        return "true or false"
    return {str: "text", int: "number", float: "number", dict: "object"}.get(type(value), type(value).__name__)


def percentiles(values: Iterable[int], shares: Iterable[float]) -> list[int]:
    """The smallest values that so large a share does not exceed; zeros where there are none."""
    ordered = sorted(values)
    return [ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0 for share in shares]
