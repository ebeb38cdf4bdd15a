"""Plain text as rows with the one column `text`."""

from collections.abc import Iterator
from functools import partial

from adapterkit.data.files.dialect import AskedOfFile, Dialect, Opened
from adapterkit.data.files.text import TextFile
from adapterkit.data.problems import Problems
from adapterkit.data.rows import Numbered


def open_text(file: TextFile, asked: AskedOfFile) -> Opened:
    """A plain text file, ready to be read.

    The rows are its lines, paragraphs or the whole of it, each with the number of its first line. Blank lines are no
    rows. A paragraph keeps its line breaks but not the one at its end; a document keeps everything (line ends as a
    newline each).
    """
    notes = tuple(file.notes)
    rows = _document if asked.text_unit == "document" else partial(_units, by_line=asked.text_unit == "line")
    return Opened(Dialect("text", "plain text", notes, bool(notes)), partial(rows, file.bare))


def _document(file: TextFile, problems: Problems) -> Iterator[Numbered]:
    text = "".join(line + "\n" for _, line in file.lines(problems))
    if text.strip():
        yield 1, {"text": text}


def _units(file: TextFile, problems: Problems, *, by_line: bool) -> Iterator[Numbered]:
    held: list[str] = []
    first = 0
    for number, line in file.lines(problems):
        blank = not line or line.isspace()
        if not blank:
            first = first if held else number
            held.append(line)
        if held and (blank or by_line):
            yield first, {"text": "\n".join(held)}
            held = []
    if held:
        yield first, {"text": "\n".join(held)}
