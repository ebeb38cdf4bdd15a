"""Whether quotation marks enclose the cells of a TSV file, or are text.

IANA's registration of TSV knows no quoting; pandas, Python and Excel quote cells there as in CSV. Both kinds of file
look alike until a cell begins with a quotation mark, which may be anywhere, so the whole file is asked.
"""

from collections.abc import Iterable

from adapterkit.data.files.layout import Layout


def encloses(lines: Iterable[str], layout: Layout) -> bool:
    """Whether quotation marks enclose cells in a file that can be read either way without an error.

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
