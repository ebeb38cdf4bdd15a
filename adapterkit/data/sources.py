"""Reading rows: JSON lines, CSV, TSV, Parquet, plain text and hub data sets, in memory or as a stream.

Text formats are read by their own readers here, because `datasets` guesses types, does not say on which line a file
is broken, and answers from its cache; hub data sets and Parquet's features go through `datasets`. Values are exactly
what the file says: a whole number stays whole, a missing key is None, lists stay nested, CSV cells are text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from adapterkit.data.arrow import read_parquet
from adapterkit.data.columns import ColumnNeed, match_columns, rename
from adapterkit.data.consistency import TypeWatch, watched
from adapterkit.data.delimited import read_csv, read_tsv
from adapterkit.data.hub import hub_rows
from adapterkit.data.jsonl import read_jsonl
from adapterkit.data.locating import Located, locate
from adapterkit.data.plain_text import TextUnit, read_text
from adapterkit.data.problems import Problems
from adapterkit.data.rows import Numbered, Row, Rows, RowStream
from adapterkit.errors import DataError

PEEKED_ROWS = 256
"""How many rows a stream reads ahead, once, to learn the columns."""


class ReadSettings(Protocol):
    """The fields of a recipe's `data` that say how a source is read."""

    @property
    def format(self) -> str: ...
    @property
    def columns(self) -> Mapping[str, str]: ...
    @property
    def root(self) -> str | None: ...
    @property
    def config(self) -> str | None: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def splits(self) -> Mapping[Any, str]: ...


class _Plain:
    """Settings that leave everything open."""

    format = "auto"
    columns: Mapping[str, str] = {}
    root = None
    config = None
    revision = None
    splits: Mapping[Any, str] = {}


Reader = Callable[[Problems], Iterator[Numbered]]


def read_rows(
    source: str | Path,
    settings: ReadSettings | None = None,
    columns: Mapping[str, str] | None = None,
    root: str | Path | None = None,
    *,
    needs: Mapping[str, ColumnNeed] | None = None,
    part: str = "train",
    folder: str | Path | None = None,
    text_unit: TextUnit = "line",
) -> Rows:
    """All rows of a file or a hub data set, under canonical column names.

    Args:
        source: a path (see `locate` for where it is looked for) or a hub data set's name.
        settings: a recipe's `data`; its `columns` and `root` apply where the arguments below are None.
        columns: canonical name -> the file's column.
        root: the folder that relative paths are looked for in first.
        needs: the task's columns: finds them by their aliases and checks that the required ones are there. Types are
            then checked in these only, else in every column.
        part: "train", "validation" or "test": a hub data set's split, through `settings.splits`.
        folder: the recipe's folder.
        text_unit: what one row of plain text is.

    Returns:
        Rows that all have the same columns; None where the file has no value.

    Raises:
        DataError: with every problem found (the first 20 in full) and its line.
    """
    opened = _Source(source, settings or _Plain(), columns, root, needs, part, folder, text_unit)
    problems = Problems(opened.shown, "Correct these lines, or leave them out.")
    held = list(opened.read(problems, streaming=False))
    if not held:
        problems.check()
        raise opened.without_rows()
    names: dict[str, None] = {}
    for _, row in held:
        if row.keys() != names.keys():
            names.update(dict.fromkeys(row))
    matched = opened.match(list(names), problems)
    whole = ((number, rename(row if len(row) == len(names) else {**names, **row}, matched)) for number, row in held)
    checked = list(watched(whole, TypeWatch(problems, needs, opened.unit)))
    problems.check()
    return Rows((row for _, row in checked), (number for number, _ in checked), str(source), opened.located.path)


def stream_rows(
    source: str | Path,
    settings: ReadSettings | None = None,
    columns: Mapping[str, str] | None = None,
    root: str | Path | None = None,
    *,
    needs: Mapping[str, ColumnNeed] | None = None,
    part: str = "train",
    folder: str | Path | None = None,
    text_unit: TextUnit = "line",
) -> RowStream:
    """The same rows with the same numbers, one by one; arguments as `read_rows`.

    The first `PEEKED_ROWS` rows are read at once: they say which columns there are. A column that first appears later
    is handed on under its own name, and missing in the rows before it.

    Raises:
        DataError: at once for what the first rows show; for a later row when the iteration comes to it.
    """
    opened = _Source(source, settings or _Plain(), columns, root, needs, part, folder, text_unit)
    names: dict[str, None] = {}
    for _, row in islice(opened.read(Problems(opened.shown, at_once=True), streaming=True), PEEKED_ROWS):
        names.update(dict.fromkeys(row))
    if not names:
        raise opened.without_rows()
    matched = opened.match(list(names), None)

    def rows() -> Iterator[Numbered]:
        problems = Problems(opened.shown, "Correct this line, or leave it out.", at_once=True)
        read = opened.read(problems, streaming=True)
        whole = ((number, rename({**names, **row}, matched)) for number, row in read)
        return iter(watched(whole, TypeWatch(problems, needs, opened.unit)))

    return RowStream(rows, str(source), list(rename(dict.fromkeys(names), matched)), opened.located.path)


def read_each(source: str | Path, problems: Problems, root: str | Path | None = None) -> Iterator[tuple[str, Row]]:
    """Every row of a file or a hub data set under its own column names, one by one, with its place: "line 7".

    What cannot be read as a row is added to the problems, before the row that follows it comes.
    """
    opened = _Source(source, _Plain(), None, root, None, "test", None, "line")
    return ((f"{opened.unit} {number}", row) for number, row in opened.read(problems, streaming=True))


class _Source:
    """A source that was found, and how to read and name it."""

    def __init__(
        self,
        source: str | Path,
        settings: ReadSettings,
        columns: Mapping[str, str] | None,
        root: str | Path | None,
        needs: Mapping[str, ColumnNeed] | None,
        part: str,
        folder: str | Path | None,
        text_unit: TextUnit,
    ) -> None:
        self.located: Located = locate(source, settings.format, settings.root if root is None else root, folder)
        self.asked = settings.columns if columns is None else columns
        self.needs = needs
        self.shown = str(self.located.path or self.located.name)
        self.unit = "record" if self.located.format in ("parquet", "hub") else "line"
        self._settings = settings
        self._split = settings.splits.get(part, part)
        self._text_unit = text_unit

    def read(self, problems: Problems, *, streaming: bool) -> Iterator[Numbered]:
        path = self.located.path
        if path is None:
            settings = self._settings
            return hub_rows(
                self.located.name,
                settings.config,
                settings.revision,
                self._split,
                streaming=streaming,
                looked_at=self.located.looked_at,
            )
        readers: dict[str, Reader] = {
            "jsonl": partial(read_jsonl, path),
            "csv": partial(read_csv, path),
            "tsv": partial(read_tsv, path),
            "parquet": partial(read_parquet, path),
            "text": partial(read_text, path, unit=self._text_unit),
        }
        return _readable(path, readers[self.located.format](problems))

    def match(self, names: list[str], problems: Problems | None) -> dict[str, str]:
        """The file's column of each canonical name; lines that cannot be read are reported before missing columns."""
        try:
            return match_columns(names, self.asked, self.needs, self.shown)
        except DataError:
            if problems is not None:
                problems.check()
            raise

    def without_rows(self) -> DataError:
        what = "a header but no rows" if self.located.format in ("csv", "tsv") else "no rows"
        return DataError(f"{self.shown} holds no rows", [f"found: {what}", "expected: at least one row"])


def _readable(path: Path, rows: Iterable[Numbered]) -> Iterator[Numbered]:
    try:
        yield from rows
    except OSError as error:
        raise DataError(f"{path} cannot be read", [f"found: {error.strerror or error}"]) from error
