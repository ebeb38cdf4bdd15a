"""How the cells of a delimited file are told apart: its delimiter, its quoting, found in what it holds."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from adapterkit.errors import DataError

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
SAMPLE_RECORDS = 1000

Cells = list[str]


@dataclass(frozen=True)
class Layout:
    """How a line becomes cells."""

    delimiter: str
    """One character."""
    quoted: bool = True
    """Whether quotation marks enclose cells (RFC 4180), or are text (TSV as IANA registers it)."""
    escaped: bool = False
    """Whether a backslash stands before a quotation mark inside a cell, as Spark and MySQL write it."""
    spaced: bool = False
    """Whether a space follows each delimiter."""
    lines_before: int = 0
    """Lines above the header, which are no part of the table (Excel's "sep=;")."""

    def records(self, lines: Iterable[str]) -> Iterator[Cells]:
        """The cells of every record. csv.Error comes where a quoted cell is broken; the next call goes on behind."""
        if not self.quoted:
            return (_split(line, self) for line in lines)
        return _Quoted(lines, self)

    @property
    def notes(self) -> list[str]:
        """What is peculiar, in words."""
        notes = [f"{DELIMITERS.get(self.delimiter, repr(self.delimiter))} between cells"]
        notes += ["a space behind each"] if self.spaced else []
        notes += ["backslashes before quotation marks"] if self.escaped else []
        return notes


class _Quoted:
    """Python's reader of CSV, which takes a carriage return inside a line for an end: a NUL stands for it meanwhile."""

    def __init__(self, lines: Iterable[str], layout: Layout) -> None:
        self._reader = csv.reader(
            (_hidden(line) if "\r" in line else line for line in lines),
            delimiter=layout.delimiter,
            strict=True,
            skipinitialspace=layout.spaced,
            doublequote=not layout.escaped,
            escapechar="\\" if layout.escaped else None,
        )

    def __iter__(self) -> Iterator[Cells]:
        return self

    def __next__(self) -> Cells:
        cells = next(self._reader)
        return [cell.replace("\x00", "\r") if "\x00" in cell else cell for cell in cells]


def _hidden(line: str) -> str:
    bare = line.removesuffix("\n").removesuffix("\r")
    return bare.replace("\r", "\x00") + line[len(bare) :]


def _split(line: str, layout: Layout) -> Cells:
    bare = line.removesuffix("\n").removesuffix("\r")
    cells = bare.split(layout.delimiter) if bare else []
    return [cell.removeprefix(" ") for cell in cells] if layout.spaced else cells


def find_layout(
    lines: Sequence[str],
    preferred: str,
    *,
    delimiter: str = "auto",
    quotes: bool | Literal["auto"] = "auto",
    source: str = "the file",
) -> Layout:
    """The layout under which every record has as many cells as the header; `preferred`: what the ending names.

    `lines` are whole, with their ends; `quotes` "auto" tries both where tabs part cells. Raises DataError: two
    delimiters would do equally well.
    """
    before = 0
    if lines and lines[0].lower().startswith("sep=") and len(lines[0].rstrip("\r\n")) == 5:
        before, delimiter = 1, lines[0][4] if delimiter == "auto" else delimiter
    lines = lines[before:]
    tried = [delimiter] if delimiter != "auto" else sorted(DELIMITERS, key=lambda one: one != preferred)
    found = [_best_quoting(lines, one, quotes, before) for one in tried]
    fitting = [layout for layout, width, share in found if width > 1 and share == 1.0]
    if len(fitting) > 1:
        words = " and ".join(DELIMITERS[layout.delimiter] for layout in fitting)
        raise DataError(
            f"{source} can be read in two ways",
            [f"found: {words} part every line into as many cells as the header, expected one of them"],
            'Say which: data.delimiter=";"',
        )
    if fitting:
        return fitting[0]
    # Some lines are broken, or there is one column: the delimiter of the ending counts if the header has it.
    best = max(found, key=lambda one: (one[1] > 1, one[0].delimiter == preferred and one[2] > 0.5, one[2]))
    return best[0] if best[1] > 1 else found[0][0]


def _best_quoting(
    lines: Sequence[str], delimiter: str, quotes: bool | Literal["auto"], before: int
) -> tuple[Layout, int, float]:
    """The layout with this delimiter that fits most records, the header's width, and the share that fits."""
    quoted = Layout(delimiter, True, lines_before=before)
    layouts = [quoted]
    if any('\\"' in line for line in lines):
        layouts.append(Layout(delimiter, True, escaped=True, lines_before=before))
    plain = Layout(delimiter, False, lines_before=before)
    if quotes == "auto":
        layouts += [plain] if delimiter == "\t" else []
    else:
        layouts = layouts if quotes else [plain]
    tried = []
    for layout in layouts:
        width, share, spaced = _fit(lines, layout)
        if spaced:
            other = Layout(delimiter, layout.quoted, layout.escaped, True, before)
            other_width, other_share, _ = _fit(lines, other)
            if other_share >= share:
                layout, width, share = other, other_width, other_share
        tried.append((layout, width, share))
    return max(tried, key=lambda one: (one[1] > 1, one[2]))  # the first of equals


def _fit(lines: Sequence[str], layout: Layout) -> tuple[int, float, bool]:
    """The header's width, the share of records that have it, and whether a space follows every delimiter."""
    records, wrong, spaced, several = layout.records(lines), 0, True, False
    width = total = 0
    while total < SAMPLE_RECORDS:
        try:
            cells = next(records)
        except StopIteration:
            break
        except csv.Error:
            wrong, total = wrong + 1, total + 1
            continue
        if not cells:
            continue
        width = width or len(cells)
        wrong, total = wrong + (len(cells) != width), total + 1
        several = several or len(cells) > 1
        spaced = spaced and all(cell.startswith(" ") for cell in cells[1:] if cell)
    return width, 1 - wrong / max(total, 1), spaced and several and not layout.spaced
