"""Which format a file has: what was asked for, what its ending says, what it holds."""

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from adapterkit.data.files.compression import PACKED, file_head
from adapterkit.data.files.conll import looks_like_conll, open_conll
from adapterkit.data.files.delimited import head_lines, open_delimited
from adapterkit.data.files.dialect import AskedOfFile, Opened
from adapterkit.data.files.json_document import open_json
from adapterkit.data.files.json_values import DECODER
from adapterkit.data.files.layout import DELIMITERS, find_layout
from adapterkit.data.files.text import TextFile, look_at
from adapterkit.data.problems import Problems
from adapterkit.data.rows import Numbered
from adapterkit.errors import DataError

_ENDINGS_OF = {
    "jsonl": "jsonl ndjson jsonlines",
    "json": "json",
    "csv": "csv",
    "tsv": "tsv tab",
    "conll": "conll conllu conllx bio iob iob2",
    "parquet": "parquet",
    "text": "txt text raw md",
}
ENDINGS = {f".{ending}": name for name, endings in _ENDINGS_OF.items() for ending in endings.split()}
"""Ending -> format. A packed file has its packing's ending behind it."""

_EXPECTED = {
    "jsonl": "JSON lines",
    "json": "JSON",
    "csv": "CSV with a header line",
    "tsv": "TSV with a header line",
    "conll": "CoNLL",
    "text": "plain text",
    "": "a file of rows",
}


def format_of(name: str) -> str:
    """The format that a name's ending says, or ""."""
    path = Path(name.lower())
    return ENDINGS.get((path.with_suffix("") if path.suffix in PACKED else path).suffix, "")


def open_file(path: Path, asked: AskedOfFile) -> Opened:
    """A file, looked at and ready to be read.

    Raises DataError: it is empty, broken, of another format, or of none that is known.
    """
    named = format_of(path.name) if asked.settings.format == "auto" else asked.settings.format
    if named == "parquet" or (not named and file_head(path, 4) == b"PAR1"):
        from adapterkit.data.files.arrow import open_parquet

        return open_parquet(path)
    file = look_at(path, _EXPECTED[named], asked.settings.encoding)
    found = named if asked.settings.format != "auto" else _by_content(file, named, asked)
    if not found:
        raise DataError(
            f"{path} is of a format that is not known",
            [f"found: {path.suffix or 'no ending'}, and text that is neither JSON, CoNLL nor a table"],
            "Say what it is: data.format=… (jsonl, json, csv, tsv, conll, text)",
        )
    told = found != named
    if found in ("jsonl", "json"):
        return open_json(file, asked, found, told=told)
    if found in ("csv", "tsv"):
        return open_delimited(file, asked, found, told=told)
    return open_conll(file, asked) if found == "conll" else _open_text(file, asked)


def _by_content(file: TextFile, named: str, asked: AskedOfFile) -> str:
    """The format of a file whose ending says none, or "text", which much else is called too."""
    if named not in ("", "text", "csv", "tsv"):
        return named
    if _is_json(file):
        return "json"
    if named in ("csv", "tsv"):
        return named
    tags_wanted = "tags" in asked.columns
    if looks_like_conll(file) and (tags_wanted or not asked.columns or not named):
        return "conll"
    if named == "text":
        return "tsv" if _has_header(file, "\t", asked) else "csv" if _has_header(file, ",", asked) else named
    return _table(file)


def _is_json(file: TextFile) -> bool:
    """Whether the text begins with a JSON object, or with an array of them."""
    text = file.head.lstrip()
    if text[:1] == "[":
        text = text[1:].lstrip()
    if text[:1] != "{":
        return False
    try:
        DECODER.raw_decode(text)
    except (ValueError, RecursionError) as error:
        return text[1:].lstrip()[:1] == '"' and getattr(error, "pos", 0) >= len(text.rstrip())
    return True


def _has_header(file: TextFile, delimiter: str, asked: AskedOfFile) -> bool:
    """Whether the first line of a text file names at least two columns that the task reads."""
    lines = head_lines(file)
    cells = [cell.strip().strip('"').casefold() for cell in lines[0].split(delimiter)] if lines else []
    return len(cells) > 1 and sum(cell in asked.columns for cell in cells) > 1


def _table(file: TextFile) -> str:
    """ "csv" or "tsv" where every line parts into as many cells, else ""."""
    lines = head_lines(file)
    try:
        layout = find_layout(lines, ",", source=str(file.path))
        widths = {len(cells) for cells in layout.records(lines) if cells}
    except (DataError, csv.Error):
        return ""
    if len(widths) != 1 or max(widths) < 2 or len(lines) < 2 or layout.delimiter not in DELIMITERS:
        return ""
    return "tsv" if layout.delimiter == "\t" else "csv"


def _open_text(file: TextFile, asked: AskedOfFile) -> Opened:
    """Plain text as rows with the one column `text`: its lines, paragraphs or the whole, numbered by their first lines.

    Blank lines are no rows. A paragraph keeps its line breaks but not the one at its end; a document keeps everything.
    """

    def rows(file: TextFile, problems: Problems) -> Iterator[Numbered]:
        if asked.text_unit == "document":
            text = "".join(line + "\n" for _, line in file.lines(problems))
            if text.strip():
                yield 1, {"text": text}
            return
        held, first = list[str](), 0
        for number, line in file.lines(problems):
            blank = not line or line.isspace()
            if not blank:
                first = first if held else number
                held.append(line)
            if held and (blank or asked.text_unit == "line"):
                yield first, {"text": "\n".join(held)}
                held = []
        if held:
            yield first, {"text": "\n".join(held)}

    notes = tuple(file.notes)
    return Opened("plain text", partial(rows, file.bare), notes, bool(notes))
