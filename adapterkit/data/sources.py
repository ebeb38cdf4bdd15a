"""Reading rows: files of every known format, folders and patterns of them, and hub data sets; in memory or as a stream.

Text formats are read by their own readers here, because `datasets` guesses types, does not say on which line a file
is broken, and answers from its cache; hub data sets and Parquet's features go through `datasets`. Values are exactly
what the file says: a whole number stays whole, a missing key is None, lists stay nested, CSV cells are text, unless all
of a column write lists.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from itertools import count, islice
from pathlib import Path

from adapterkit.data.columns import match_columns, rename
from adapterkit.data.consistency import watched
from adapterkit.data.files.dialect import AskedOfFile, Opened, TextUnit
from adapterkit.data.files.opening import open_file
from adapterkit.data.files.text import look_at
from adapterkit.data.locating import locate
from adapterkit.data.nested import find_nested, with_nested
from adapterkit.data.problems import Problems
from adapterkit.data.rows import Numbered, Reading, Row, Rows, RowStream
from adapterkit.errors import DataError
from adapterkit.recipe import DataSettings
from adapterkit.recipe.columns import Column

PEEKED_ROWS = 256
"""How many rows a stream reads ahead, once, to learn the columns."""


def read_rows(
    source: str | Path,
    settings: DataSettings | None = None,
    columns: Mapping[str, str] | None = None,
    root: str | Path | None = None,
    *,
    needs: Mapping[str, Column] | None = None,
    split: str = "train",
    folder: str | Path | None = None,
    text_unit: TextUnit = "line",
) -> Rows:
    """All rows of a file or a hub data set, under canonical column names.

    Args:
        source: a path, a folder or a pattern (see `locate` for where it is looked for), or a hub data set's name.
        settings: a recipe's `data`; its `columns` and `root` apply where the arguments below are None.
        columns: canonical name -> the file's column.
        root: the folder that relative paths are looked for in first.
        needs: the task's columns: finds them by their aliases and checks that the required ones are there. Types are
            then checked in these only, else in every column.
        split: "train", "validation" or "test": the split of a folder, a JSON document or a hub data set, through
            `settings.splits`.
        folder: the recipe's folder.
        text_unit: what one row of plain text is.

    Returns:
        Rows that all have the same columns; None where the file has no value.

    Raises:
        DataError: with every problem found (the first 20 in full) and its line.
    """
    opened = _Source(source, settings or DataSettings(), columns, root, needs, split, folder, text_unit)
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
    whole = [(number, rename(row if len(row) == len(names) else {**names, **row}, matched)) for number, row in held]
    rows = _checked(whole, needs, problems, opened.unit)
    numbers = (number for number, _ in held)
    return Rows(rows, numbers, str(source), opened.located.path, opened.reading(matched))


def named_rows(
    rows: Rows, columns: Mapping[str, str] | None = None, *, needs: Mapping[str, Column] | None = None
) -> Rows:
    """Rows in memory under canonical column names; arguments and errors as `read_rows`."""
    problems = Problems(rows.source, "Correct these rows, or leave them out.")
    matched = match_columns(rows.columns, columns or {}, needs, rows.source)
    missing = dict.fromkeys(rows.columns)
    numbered = [(number, rename({**missing, **row}, matched)) for number, row in zip(rows.numbers, rows, strict=True)]
    checked = _checked(numbered, needs, problems, "row")
    return Rows(checked, rows.numbers, rows.source, rows.path, replace(rows.reading, columns=matched))


def _checked(rows: list[Numbered], needs: Mapping[str, Column] | None, problems: Problems, unit: str) -> list[Row]:
    """The rows with the lists that cells write, where every column holds one type. Raises DataError."""
    nested = find_nested(rows, needs or {}, problems, unit)
    read = with_nested(rows, nested, needs or {}, problems, unit)
    checked = [row for _, row in watched(read, problems, needs, unit)]
    problems.check()
    return checked


def stream_rows(
    source: str | Path,
    settings: DataSettings | None = None,
    columns: Mapping[str, str] | None = None,
    root: str | Path | None = None,
    *,
    needs: Mapping[str, Column] | None = None,
    split: str = "train",
    folder: str | Path | None = None,
    text_unit: TextUnit = "line",
) -> RowStream:
    """The same rows with the same numbers, one by one; arguments as `read_rows`.

    The first `PEEKED_ROWS` rows are read at once: they say which columns there are. A column that first appears later
    is handed on under its own name, and missing in the rows before it. Raises DataError: at once for what the first
    rows show; for a later row when the iteration comes to it."""
    opened = _Source(source, settings or DataSettings(), columns, root, needs, split, folder, text_unit)
    names: dict[str, None] = {}
    at_once = Problems(opened.shown, at_once=True)
    peeked = list(islice(opened.read(at_once, streaming=True), PEEKED_ROWS))
    if not peeked:
        raise opened.without_rows()
    for _, row in peeked:
        names.update(dict.fromkeys(row))
    matched = opened.match(list(names), None)
    nested = find_nested([(n, rename(row, matched)) for n, row in peeked], needs or {}, at_once, opened.unit)

    def rows() -> Iterator[Numbered]:
        problems = Problems(opened.shown, "Correct this line, or leave it out.", at_once=True)
        read = opened.read(problems, streaming=True)
        whole = ((number, rename({**names, **row}, matched)) for number, row in read)
        unwritten = with_nested(whole, nested, needs or {}, problems, opened.unit)
        return watched(unwritten, problems, needs, opened.unit)

    present = list(rename(dict.fromkeys(names), matched))
    return RowStream(rows, str(source), present, opened.located.path, opened.reading(matched))


def read_each(
    source: str | Path, problems: Problems, settings: DataSettings | None = None
) -> Iterator[tuple[str, Row]]:
    """Every row of a file or a hub data set under its own column names, one by one, with its place: "line 7".

    What cannot be read as a row is added to the problems, before the row that follows it comes.
    """
    opened = _Source(source, settings or DataSettings(), None, None, None, "test", None, "line")
    return ((f"{opened.unit} {number}", row) for number, row in opened.read(problems, streaming=True))


class _Source:
    """A source that was found, and how to read and name it."""

    def __init__(
        self,
        source: str | Path,
        settings: DataSettings,
        columns: Mapping[str, str] | None,
        root: str | Path | None,
        needs: Mapping[str, Column] | None,
        split: str,
        folder: str | Path | None,
        text_unit: TextUnit,
    ) -> None:
        named = {str(name): word for name, word in settings.splits.items()}.get(split, split)
        root = settings.root if root is None else root
        self.located = locate(source, settings.format, root, folder, split, named)
        self.columns = settings.columns if columns is None else columns
        self.needs = needs
        self.shown = str(self.located.path or self.located.name)
        known = {alias for name, need in (needs or {}).items() for alias in (name, *need.aliases)}
        self._asked = AskedOfFile(settings, named, frozenset([*known, *self.columns.values()]), text_unit)

    @cached_property
    def opened(self) -> list[Opened]:
        """The files, looked at."""
        opened = []
        for path in self.located.files:
            with _os_errors(path):
                opened.append(_class_text(path) if self.located.by_class else open_file(path, self._asked))
        return opened

    @property
    def unit(self) -> str:
        """What the number of a row counts."""
        return self.opened[0].unit if len(self.opened) == 1 else "record"

    def reading(self, matched: Mapping[str, str]) -> Reading:
        """How the rows are read."""
        told = dict.fromkeys(f"read as {one}" for one in self.opened if one.told)
        words = "; ".join(dict.fromkeys(map(str, self.opened))) or "a hub data set"
        return Reading(words, (*self.located.notes, *told), matched, self.unit)

    def read(self, problems: Problems, *, streaming: bool) -> Iterator[Numbered]:
        """The rows. Of one file with its lines' numbers; of several numbered through from 1."""
        if self.located.path is None:
            from adapterkit.data.hub import hub_rows

            asked, looked_at = self._asked, self.located.looked_at
            return hub_rows(self.located.name, asked.settings, asked.split, streaming=streaming, looked_at=looked_at)
        return self._of_files(problems)

    def _of_files(self, problems: Problems) -> Iterator[Numbered]:
        numbers, several = count(1), len(self.opened) > 1
        for path, opened in zip(self.located.files, self.opened, strict=True):
            problems.file = path.name if several else ""
            with _os_errors(path):
                for number, row in opened.rows(problems):
                    yield next(numbers) if several else number, row
        problems.file = ""

    def match(self, names: list[str], problems: Problems | None) -> dict[str, str]:
        """The file's column of each canonical name; lines that cannot be read are reported before missing columns."""
        try:
            return match_columns(names, self.columns, self.needs, self.shown)
        except DataError:
            if problems is not None:
                problems.check()
            raise

    def without_rows(self) -> DataError:
        """The error for a source without a row."""
        table = bool(self.opened) and all(one.name in ("CSV", "TSV") for one in self.opened)
        what = "a header but no rows" if table else "no rows"
        return DataError(f"{self.shown} holds no rows", [f"found: {what}", "expected: at least one row"])


def _class_text(path: Path) -> Opened:
    """A text in a folder that bears the name of its class."""

    def rows(problems: Problems) -> Iterator[Numbered]:
        text = "".join(look_at(path, "plain text").pieces())
        yield 1, {"text": text.removesuffix("\n"), "label": path.parent.name}

    return Opened("plain text", rows)


@contextmanager
def _os_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{path} cannot be read", [f"found: {error.strerror or error}"]) from error
