"""Plain text as rows with the one column `text`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from adapterkit.data.lines import read_lines
from adapterkit.data.problems import Problems
from adapterkit.data.rows import Numbered

TextUnit = Literal["line", "paragraph", "document"]
"""What one row of a text file is: a line; lines up to a blank one; the whole file."""


def read_text(path: Path, problems: Problems, unit: TextUnit = "line") -> Iterator[Numbered]:
    """The lines, paragraphs or the whole of a text file, each with the number of its first line.

    Blank lines are no rows. A paragraph keeps its line breaks but not the one at its end; a document keeps everything
    (line ends as a newline each).
    """
    lines = read_lines(path, "plain text", problems)
    if unit == "document":
        text = "".join(line + "\n" for _, line in lines)
        if text.strip():
            yield 1, {"text": text}
        return
    held: list[str] = []
    first = 0
    for number, line in lines:
        blank = not line or line.isspace()
        if not blank:
            first = first if held else number
            held.append(line)
        if held and (blank or unit == "line"):
            yield first, {"text": "\n".join(held)}
            held = []
    if held:
        yield first, {"text": "\n".join(held)}
