"""CSV and TSV with a header line. Cells stay text, as written; an empty cell is None.

Neither format says which cells are numbers, and guessing would turn "007" into 7 and "NA" into a missing value; a task
that needs numbers converts them. CSV follows RFC 4180. TSV has no quoting (as its IANA registration says): a quotation
mark is an ordinary character there.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from adapterkit.data.lines import read_lines
from adapterkit.data.problems import Problems
from adapterkit.data.rows import Numbered
from adapterkit.errors import DataError

_LONGEST_CELL_CHARACTERS = 2**27


def read_csv(path: Path, problems: Problems) -> Iterator[Numbered]:
    """The records of a CSV file, each with the line on which it starts; the header is line 1."""
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL_CHARACTERS))
    lines = read_lines(path, "CSV with a header line", problems)
    return _records(path, _csv_cells(lines, problems), problems)


def read_tsv(path: Path, problems: Problems) -> Iterator[Numbered]:
    """The records of a TSV file, one per line; the header is line 1."""
    lines = read_lines(path, "TSV with a header line", problems)
    return _records(path, ((number, line.split("\t") if line else []) for number, line in lines), problems)


def _csv_cells(lines: Iterator[tuple[int, str]], problems: Problems) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader((line + "\n" for _, line in lines), strict=True)
    while True:
        first_line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problems.add(f"line {first_line}", f"not valid CSV ({error})")
        else:
            yield first_line, cells


def _records(path: Path, records: Iterator[tuple[int, list[str]]], problems: Problems) -> Iterator[Numbered]:
    header: list[str] | None = None
    for number, cells in records:
        if not cells:
            continue
        if header is None:
            header = cells
            _check_header(path, header)
        elif len(cells) != len(header):
            problems.add(
                f"line {number}",
                f"{len(cells)} {'cell' if len(cells) == 1 else 'cells'}, but the header has {len(header)}",
            )
        else:
            yield number, {name: cell or None for name, cell in zip(header, cells, strict=True)}


def _check_header(path: Path, header: list[str]) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(
            f"{path} has columns of the same name",
            [f"line 1: {name!r} names columns {_places(header, name)}" for name in twice],
            "Rename them in the file's first line.",
        )
    try:
        looks_like_json = isinstance(json.loads(",".join(header)), dict)
    except ValueError:
        looks_like_json = ",".join(header).startswith('{"')
    if looks_like_json:
        raise DataError(
            f"{path} is not CSV or TSV",
            ["found: JSON lines", "expected: a header line with the columns' names"],
            "Say so: data.format=jsonl",
        )


def _places(header: list[str], name: str) -> str:
    return " and ".join(str(place) for place, found in enumerate(header, start=1) if found == name)
