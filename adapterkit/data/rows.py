"""Rows: what every source becomes, in memory (`Rows`) or as a stream (`RowStream`)."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, overload

Row = dict[str, Any]
"""One example: canonical column name -> value."""

IN_MEMORY = "rows in memory"
"""What stands for a source where a caller handed the rows over."""

Numbered = tuple[int, Row]
"""A row with its 1-based line number (text formats) or record number (Parquet, hub data sets)."""


def canonical(value: object) -> str:
    """JSON text that is equal exactly when the values are; keys sorted. int 1, float 1.0 and text "1" all differ."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=_foreign)


def _foreign(value: object) -> list[str]:
    """What JSON has no word for (bytes, dates, decimals of a Parquet file), under its type's name."""
    return [type(value).__name__, value.hex() if isinstance(value, bytes) else str(value)]


@dataclass(frozen=True)
class Reading:
    """How rows were read.

    Attributes:
        dialect: what the file was found to be, in words; "" for rows in memory.
        notes: what a user should know of it, since the source's name does not say it.
        columns: canonical name -> the source's column, for those that were found.
        unit: what a row's number counts: "line" of a text format, "record" of Parquet, a hub data set or several files,
            "row" of rows in memory.
    """

    dialect: str = ""
    notes: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    unit: str = "row"


class Rows(Sequence[Row]):
    """Rows in memory, in file order, each with its number in the source.

    Attributes:
        numbers: 1-based line number (JSONL, CSV, TSV, text) or record number (Parquet, hub, memory) of each row.
            A record that spans lines has the number of its first; a CSV's header is line 1.
        source: where the rows come from, as the user named it.
        path: the file or folder they were read from, or None.
        reading: how they were read.
    """

    def __init__(
        self,
        rows: Iterable[Row],
        numbers: Iterable[int] | None = None,
        source: str = IN_MEMORY,
        path: Path | None = None,
        reading: Reading | None = None,
    ) -> None:
        self._rows: list[Row] = list(rows)
        self.numbers: tuple[int, ...] = tuple(range(1, len(self._rows) + 1) if numbers is None else numbers)
        if len(self.numbers) != len(self._rows):
            raise ValueError(f"{len(self._rows)} rows, but {len(self.numbers)} numbers")
        self.source = source
        self.path = path
        self.reading = reading or Reading()

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> Row | Rows:
        if isinstance(index, slice):
            return self._derived(self._rows[index], self.numbers[index])
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def __repr__(self) -> str:
        return f"Rows({len(self):,} from {self.source!r}, columns {', '.join(self.columns)})"

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that some row has, in order of first appearance."""
        names: dict[str, None] = {}
        for row in self._rows:
            if row.keys() != names.keys():
                names.update(dict.fromkeys(row))
        return tuple(names)

    def column(self, name: str) -> list[Any]:
        """One value per row; None where a row lacks the column."""
        return [row.get(name) for row in self._rows]

    def select(self, indices: Iterable[int]) -> Rows:
        """The rows at these positions (0-based), in this order, with their numbers."""
        chosen = list(indices)
        return self._derived((self._rows[i] for i in chosen), (self.numbers[i] for i in chosen))

    def _derived(self, rows: Iterable[Row], numbers: Iterable[int]) -> Rows:
        return Rows(rows, numbers, self.source, self.path, self.reading)

    def sample(self, count: int, seed: int = 0) -> Rows:
        """`count` rows drawn without replacement, kept in file order; all of them if there are no more."""
        if count >= len(self):
            return self
        return self.select(sorted(random.Random(f"sample {seed}").sample(range(len(self)), count)))

    def digest(self) -> str:
        """SHA-256 (64 hex digits) over the rows' content in order; numbers, source and key order play no part."""
        total = hashlib.sha256()
        for row in self._rows:
            total.update(canonical(row).encode("utf-8", "surrogatepass") + b"\n")
        return total.hexdigest()


class RowStream(Iterable[Row]):
    """Rows that are read as they are asked for and never all held. Every iteration starts from the beginning.

    Problems are raised at the first bad row, when the iteration comes to it. `source`, `path`, `reading`: as in `Rows`.
    `columns`: the columns of the first rows (`sources.PEEKED_ROWS`); a row has None where it lacks one of these."""

    def __init__(
        self,
        open_rows: Callable[[], Iterator[Numbered]],
        source: str,
        columns: Sequence[str] = (),
        path: Path | None = None,
        reading: Reading | None = None,
    ) -> None:
        self._open_rows = open_rows
        self.source = source
        self.columns = tuple(columns)
        self.path = path
        self.reading = reading or Reading()

    def __iter__(self) -> Iterator[Row]:
        return (row for _, row in self._open_rows())

    def __repr__(self) -> str:
        return f"RowStream(from {self.source!r}, columns {', '.join(self.columns)})"

    def numbered(self) -> Iterator[Numbered]:
        """(number, row) pairs, numbered as `Rows.numbers`."""
        return self._open_rows()

    def chunks(self, rows: int) -> Iterator[Rows]:
        """The stream as `Rows` of at most this many rows, so that what works on rows in memory works on a stream."""
        if rows < 1:
            raise ValueError(f"a chunk needs at least one row, not {rows}")
        pairs = self._open_rows()
        while held := list(islice(pairs, rows)):
            yield self._rows(held)

    def take(self, count: int) -> Rows:
        """The first `count` rows, in memory."""
        return self._rows(list(islice(self._open_rows(), count)))

    def sample(self, count: int, seed: int = 0) -> Rows:
        """`count` rows drawn from the whole stream without replacement, kept in its order; all if there are no more."""
        chance = random.Random(f"sample {seed}")
        held: list[tuple[int, Numbered]] = []
        for place, pair in enumerate(self._open_rows()):
            if place < count:
                held.append((place, pair))
            elif (chosen := chance.randrange(place + 1)) < count:
                held[chosen] = (place, pair)
        return self._rows([pair for _, pair in sorted(held, key=lambda one: one[0])])

    def where(self, keep: Callable[[int, Row], bool]) -> RowStream:
        """The rows for which `keep(number, row)` is true."""
        return self._derived(lambda: (pair for pair in self._open_rows() if keep(*pair)))

    def shuffled(self, seed: int, epoch: int, buffer_rows: int = 10_000) -> RowStream:
        """Every row once, drawn from a buffer of `buffer_rows`; the same order for the same seed and epoch."""

        def draw() -> Iterator[Numbered]:
            chance = random.Random(f"stream {seed} {epoch}")
            buffer: list[Numbered] = []
            for pair in self._open_rows():
                if len(buffer) < buffer_rows:
                    buffer.append(pair)
                    continue
                place = chance.randrange(len(buffer))
                drawn, buffer[place] = buffer[place], pair
                yield drawn
            chance.shuffle(buffer)
            yield from buffer

        return self._derived(draw)

    def _derived(self, open_rows: Callable[[], Iterator[Numbered]]) -> RowStream:
        return RowStream(open_rows, self.source, self.columns, self.path, self.reading)

    def _rows(self, held: Sequence[Numbered]) -> Rows:
        return Rows((row for _, row in held), (number for number, _ in held), self.source, self.path, self.reading)


def as_rows(rows: Rows | Iterable[Mapping[str, Any]]) -> Rows:
    """What a Python caller hands over, as `Rows` numbered from 1."""
    return rows if isinstance(rows, Rows) else Rows(dict(row) for row in rows)
