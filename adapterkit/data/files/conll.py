"""CoNLL and CoNLL-U: one word per line with its tags in columns, blank lines between sentences."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from adapterkit.data.files.delimited import head_lines
from adapterkit.data.files.dialect import AskedOfFile, Opened
from adapterkit.data.files.text import TextFile
from adapterkit.data.problems import Problems
from adapterkit.data.rows import Numbered, Row
from adapterkit.errors import DataError

CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
CONLLU_NAMES = ("", "tokens", *CONLLU[2:])
DOCUMENT = "-DOCSTART-"

_SPACES = re.compile(r"[ \t]+")  # no other space parts columns: words may hold a no-break space
_WORD_ID = re.compile(r"[0-9]+")
_RANGE_OR_EMPTY = re.compile(r"[0-9]+[-.][0-9]+")
_TAG = re.compile(r"O|[BIOESLUM][-_].+|.+[-_][BIOESLUM]")


@dataclass(frozen=True)
class Columns:
    """How a line becomes a word and its tags."""

    names: tuple[str, ...]
    """One per column; "tokens" for the word, "tags" for the last, "" for what is left out (numbers of words)."""
    by_tabs: bool
    """Whether tabs alone part columns, so that a word may hold a space."""


def split(line: str, by_tabs: bool) -> list[str]:
    """The columns of a line."""
    return line.rstrip(" \n").split("\t") if by_tabs else _SPACES.split(line.strip(" \t\n"))


def open_conll(file: TextFile, asked: AskedOfFile) -> Opened:
    """A CoNLL file, ready to be read. Raises DataError: no line has two columns."""
    columns = find_columns(head_lines(file))
    if columns is None:
        raise DataError(
            f"{file.path} is not CoNLL",
            ["found: lines of one column", "expected: a word and its tag on each line, blank lines between sentences"],
            "Name the format that it has: data.format=…",
        )
    if asked.settings.header is not None:
        if len(asked.settings.header) != len(columns.names):
            raise DataError(
                f"{file.path} has another number of columns",
                [f"data.header: found {len(asked.settings.header)} names, expected {len(columns.names)}"],
            )
        columns = Columns(tuple(asked.settings.header), columns.by_tabs)
    if columns.names[: len(CONLLU)] == CONLLU_NAMES:
        notes = ["words from column 2"]
        name = "CoNLL-U"
    else:
        others = [one for one in columns.names if one not in ("tokens", "tags", "")]
        notes = [f"{len(columns.names)} columns: {', '.join(one or 'numbers of words' for one in columns.names)}"]
        notes += [f"tags from the last one (data.columns.tags={others[-1]} takes another)"] if others else []
        name = "CoNLL"
    return Opened(name, partial(_rows, file.bare, columns), (*notes, *file.notes), True)


def looks_like_conll(file: TextFile) -> bool:
    """Whether a file without a telling name is CoNLL: columns alike on all lines, blank lines, and tags at the end."""
    lines = head_lines(file)
    columns = find_columns(lines)
    filled = [line for line in lines if line.strip(" \t\n")]
    if columns is None or len(filled) == len(lines) or not filled:
        return False
    if columns.names == CONLLU_NAMES:
        return True
    words = [split(line, columns.by_tabs) for line in filled if not line.startswith("#")]
    if not words or any(len(cells) != len(columns.names) for cells in words):
        return False
    return all(_TAG.fullmatch(cells[-1]) for cells in words)


def find_columns(lines: Sequence[str]) -> Columns | None:
    """What the columns of a file's first lines are; None where most lines have one."""
    filled = [line for line in lines if line.strip(" \t\n") and not line.startswith(DOCUMENT)]
    words = [line for line in filled if not line.startswith("# ")] or filled
    if not words:
        return None
    for by_tabs in (True, False):
        widths = Counter(len(split(line, by_tabs)) for line in words)
        width, count = widths.most_common(1)[0]
        if width > 1 and count * 3 > len(words):
            break
    else:
        return None
    cells = [row for line in words if len(row := split(line, by_tabs)) == width]
    numbered = all(_WORD_ID.fullmatch(row[0]) or _RANGE_OR_EMPTY.fullmatch(row[0]) for row in cells)
    if width == len(CONLLU) and by_tabs and numbered:
        return Columns(CONLLU_NAMES, True)
    begins = "tokens"
    if numbered and width > 2 and cells[0][0] == "1":
        begins = ""
    names = [begins, *(f"column_{place}" for place in range(2, width)), "tags"]
    if not begins:
        names[1] = "tokens"
    return Columns(tuple(names), by_tabs)


def _rows(file: TextFile, columns: Columns, problems: Problems) -> Iterator[Numbered]:
    kept = [(place, name) for place, name in enumerate(columns.names) if name]
    held: list[list[str]] = []
    first = 0
    for number, line in file.lines(problems):
        if not line.strip(" \t"):
            if held:
                yield first, _sentence(held, kept)
            held = []
            continue
        cells = split(line, columns.by_tabs)
        if cells[0] == DOCUMENT or (line.startswith("#") and len(cells) != len(columns.names)):
            continue
        if len(cells) != len(columns.names):
            found = f"{len(cells)} {'column' if len(cells) == 1 else 'columns'}"
            problems.add(f"line {number}", f"{found}, expected {len(columns.names)} as on the lines before")
        elif columns.names[0] or not _RANGE_OR_EMPTY.fullmatch(cells[0]):
            first = first if held else number
            held.append(cells)
    if held:
        yield first, _sentence(held, kept)


def _sentence(words: Sequence[Sequence[str]], kept: Sequence[tuple[int, str]]) -> Row:
    return {name: [cells[place] for cells in words] for place, name in kept}
