"""What a file was found to be, in words, and what a recipe may say of it beforehand."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from adapterkit.data.problems import Problems
from adapterkit.data.rows import Numbered
from adapterkit.recipe import DataSettings

TextUnit = Literal["line", "paragraph", "document"]
"""What one row of a text file is: a line; lines up to a blank one; the whole file."""


@dataclass(frozen=True)
class AskedOfFile:
    """What is known of a file before it is looked at; the fields of a recipe's `data`, and what the task needs."""

    settings: DataSettings
    split: str = "train"
    """The split's name, where a JSON document holds several."""
    columns: frozenset[str] = frozenset()
    """Canonical names and aliases of the columns that the task reads; empty where there is no task."""
    text_unit: TextUnit = "line"


@dataclass(frozen=True)
class Opened:
    """A file that was looked at, ready to be read."""

    name: str
    """Its format in words: "JSON lines", "CSV"."""
    rows: Callable[[Problems], Iterator[Numbered]]
    """Reads them, from the beginning at each call."""
    notes: tuple[str, ...] = ()
    """What is peculiar: "semicolons between cells", "in UTF-16"."""
    told: bool = False
    """Whether a user should be told, since the name of the file does not say it."""
    unit: str = "line"
    """What the number of a row counts: "line" or "record"."""

    def __str__(self) -> str:
        return ", ".join((self.name, *self.notes))
