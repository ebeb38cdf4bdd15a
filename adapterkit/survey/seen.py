"""What the columns of rows hold, and how long their inputs are: in characters, in words, and in tokens."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterkit.data import Rows, canonical
from adapterkit.errors import BackboneError

LOOKED_AT = 5_000
"""Rows from which a column is judged, spread over all."""
SHARES = (0.5, 0.95, 0.99, 1.0)
TOKENISED_ROWS = 2_000
TOKENISED_CHARACTERS = 50_000


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


@dataclass(frozen=True)
class Lengths:
    """Median, 95 %, 99 % and the longest of each."""

    characters: tuple[int, ...]
    words: tuple[int, ...]
    tokens: tuple[int, ...] | None = None
    """None where no tokenizer was at hand; without special tokens, of at most `TOKENISED_ROWS` rows."""


def lengths_of(rows: Rows, inputs: Sequence[str], backbone: str | None) -> Lengths:
    """The lengths of the inputs of every row, all of a row's together."""
    texts = [" ".join(_text(row.get(name)) for name in inputs) for row in rows]
    tokenizer = None if backbone is None else _tokenizer(backbone)
    tokens = None
    if tokenizer is not None:
        step = max(1, len(texts) // TOKENISED_ROWS)
        sample = [text[:TOKENISED_CHARACTERS] for text in texts[::step]]
        tokens = _percentiles(len(one.ids) for one in tokenizer.encode_batch(sample))
    return Lengths(_percentiles(map(len, texts)), _percentiles(len(text.split()) for text in texts), tokens)


def _text(value: Any) -> str:
    """A value as the text that a model would read of it."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return " ".join(map(_text, value.values()))
    return " ".join(map(_text, value)) if isinstance(value, list) else ""


def _tokenizer(backbone: str) -> Any:
    """The fast tokenizer of a checkpoint in a folder or in the hub's cache; None where there is none."""
    path: Any = Path(backbone) / "tokenizer.json"
    if not path.is_file():
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            path = try_to_load_from_cache(backbone, "tokenizer.json")
        except HFValidationError:
            return None
    if not isinstance(path, str | Path):
        return None
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing more exact
        raise BackboneError(f"The tokenizer {path} cannot be read", [str(error)]) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _percentiles(values: Iterable[int]) -> tuple[int, ...]:
    """The smallest values that so large a share as in `SHARES` does not exceed; zeros where there are none."""
    ordered = sorted(values) or [0]
    return tuple(ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in SHARES)
