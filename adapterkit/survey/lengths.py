"""How long the inputs of rows are: in characters, in words, and in tokens where a tokenizer is at hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterkit.data import Rows
from adapterkit.errors import BackboneError
from adapterkit.survey.seen import percentiles

SHARES = (0.5, 0.95, 0.99, 1.0)
TOKENISED_ROWS = 2_000
TOKENISED_CHARACTERS = 50_000


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
    characters = percentiles(map(len, texts), SHARES)
    words = percentiles((len(text.split()) for text in texts), SHARES)
    tokenizer = None if backbone is None else _tokenizer(backbone)
    tokens = None
    if tokenizer is not None:
        step = max(1, len(texts) // TOKENISED_ROWS)
        sample = [text[:TOKENISED_CHARACTERS] for text in texts[::step]]
        tokens = tuple(percentiles((len(one.ids) for one in tokenizer.encode_batch(sample)), SHARES))
    return Lengths(tuple(characters), tuple(words), tokens)


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
