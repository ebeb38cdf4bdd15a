"""CSV and TSV with a header line. Cells stay text, as written; an empty cell is None.

Neither format says which cells are numbers, and guessing would turn "007" into 7 and "NA" into a missing value; a task
that needs numbers converts them. CSV follows RFC 4180. The delimiter is found in the file, whatever its ending says.
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from adapterkit.data.files.dialect import AskedOfFile, Opened
from adapterkit.data.files.layout import DELIMITERS, Layout, find_layout
from adapterkit.data.files.text import TextFile, wrong
from adapterkit.data.problems import Problems
from adapterkit.data.rows import Numbered
from adapterkit.errors import DataError

_LONGEST_CELL_CHARACTERS = 2**27
_PREFERRED = {"csv": ",", "tsv": "\t"}


def open_delimited(file: TextFile, asked: AskedOfFile, format_: str, *, told: bool = False) -> Opened:
    """A CSV or TSV file, ready to be read.

    Raises DataError: two delimiters would do equally well, columns of the same name, or JSON lines.
    """
    if file.head.startswith('{"'):
        raise wrong(file.path, ("JSON", "Say so: data.format=json"), "CSV or TSV")
    preferred = _PREFERRED[format_]
    layout = find_layout(
        head_lines(file),
        preferred,
        delimiter=asked.settings.delimiter,
        quotes=asked.settings.quotes,
        source=str(file.path),
    )
    if layout.delimiter == "\t" and asked.settings.quotes == "auto":
        layout = _with_quotes(file, layout)
    header = None if asked.settings.header is None else list(asked.settings.header)
    if header is not None:
        _check_names(str(file.path), header, "data.header")
    ordinary = layout.delimiter == preferred and layout == Layout(preferred, layout.quoted)
    notes = [*([] if ordinary else layout.notes), *file.notes]
    name = "TSV" if format_ == "tsv" and layout.delimiter == "\t" else "CSV"
    return Opened(name, partial(_rows, file.bare, layout, header), tuple(notes), told or bool(notes))


def head_lines(file: TextFile) -> list[str]:
    """The whole lines of a file's beginning, with their ends."""
    lines = (file.head.replace("\r", "\n") if file.ends == "\r" else file.head).split("\n")
    last = lines.pop()
    whole = [line + "\n" for line in lines]
    return [*whole, last] if last and (file.whole or not whole) else whole


def _with_quotes(file: TextFile, layout: Layout) -> Layout:
    """The layout with the quoting of the whole file, where the beginning allows both."""
    plain, quoted = replace(layout, quoted=False, escaped=False), replace(layout, quoted=True)
    lines = (line for _, line in file.lines(Problems(""), keep_ends=True))
    if _fits(file, plain):
        return quoted if not layout.escaped and _fits(file, quoted) and _encloses(lines, plain) else plain
    return quoted if layout.quoted or _fits(file, quoted) else plain


def _fits(file: TextFile, layout: Layout) -> bool:
    """Whether all records of the file have the header's width."""
    width = 0
    try:
        for cells in layout.records(line for _, line in file.lines(Problems(""), keep_ends=True)):
            width = width or len(cells)
            if cells and len(cells) != width:
                return False
    except csv.Error:
        return False
    return True


def _encloses(lines: Iterable[str], layout: Layout) -> bool:
    """Whether quotation marks enclose cells in a TSV file that can be read either way without an error.

    IANA's registration of TSV knows no quoting; pandas, Python and Excel quote cells there as in CSV. Both look alike
    until a cell begins with a quotation mark, which may be anywhere, so the whole file is asked.

    They do where a writer had a reason for them: a doubled mark or a line end inside; commas inside every enclosed cell
    and nowhere else (as Excel writes them); or all cells of the header enclosed. Else they are what somebody said.
    """
    commas_inside = commas_outside = enclosed = 0
    for number, line in enumerate(lines):
        if '"' not in line and "," not in line:
            continue
        cells = line.removesuffix("\n").removesuffix("\r").split(layout.delimiter)
        inner = [_inner(cell) for cell in cells]
        if number == 0 and all(text is not None for text in inner):
            return True
        for cell, text in zip(cells, inner, strict=True):
            if text is None and cell.startswith('"'):
                return True  # it goes on in the next line, since the file has no error where marks enclose
            elif text is None:
                commas_outside += "," in cell
            elif not text or '""' in text or "\r" in text:
                return True
            else:
                enclosed += 1
                commas_inside += "," in text
    return 0 < commas_inside == enclosed and not commas_outside


def _inner(cell: str) -> str | None:
    """What stands between the marks of an enclosed cell; None for a cell that is not enclosed."""
    if len(cell) < 2 or cell[0] != '"' or cell[-1] != '"' or '"' in cell[1:-1].replace('""', ""):
        return None
    return cell[1:-1]


def _rows(file: TextFile, layout: Layout, given: list[str] | None, problems: Problems) -> Iterator[Numbered]:
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL_CHARACTERS))
    header = given
    for number, cells in _records(file, layout, problems):
        if header is None:
            header = [name.strip() for name in cells]
            _check_names(str(file.path), header, "line 1")
        elif len(cells) == len(header):
            row: dict[str, str | None] = {}
            for place, (name, cell) in enumerate(zip(header, cells, strict=True), start=1):
                if name or cell:
                    row[name or f"column {place}"] = cell or None
            yield number, row
        else:
            cell_word = "cell" if len(cells) == 1 else "cells"
            problems.add(
                f"line {number}",
                f"{len(cells)} {cell_word}, but the header has {len(header)}",
                f"If other characters than {DELIMITERS.get(layout.delimiter, layout.delimiter)} part the cells, name "
                'them: data.delimiter=";".',
            )


def _records(file: TextFile, layout: Layout, problems: Problems) -> Iterator[tuple[int, list[str]]]:
    """(line on which it starts, cells) of every record; blank lines are passed over."""
    at = 0

    def lines() -> Iterator[str]:
        nonlocal at
        for number, line in file.lines(problems, keep_ends=True):
            at = number
            if number > layout.lines_before:
                yield line

    records = layout.records(lines())
    at = layout.lines_before
    while True:
        first_line = at + 1
        try:
            cells = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            reason = str(error).split(" - ")[0]  # without Python's advice to Python programmers
            problems.add(f"line {first_line}", f"not valid CSV ({reason})")
        else:
            if cells:
                yield first_line, cells


def _check_names(path: str, header: list[str], place: str) -> None:
    places: dict[str, list[str]] = {}
    for number, name in enumerate(header, start=1):
        places.setdefault(name, []).append(str(number))
    if twice := sorted(name for name, found in places.items() if name and len(found) > 1):
        raise DataError(
            f"{path} has columns of the same name",
            [f"{place}: {name!r} names columns {' and '.join(places[name])}" for name in twice],
            "Rename them in the file's first line; where that is a row already, name the columns: "
            "data.header=[text, label]",
        )
