"""Rows written in every format by the libraries that users write them with."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

Rows = Sequence[dict[str, Any]]


def json_lines(rows: Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def json_array(rows: Rows) -> bytes:
    return json.dumps(rows, ensure_ascii=False).encode()


def pretty_array(rows: Rows) -> bytes:
    return json.dumps(rows, indent=2).encode()


def under_data(rows: Rows) -> bytes:
    return json.dumps({"version": "1.0", "data": rows}, indent=1).encode()


def by_columns(rows: Rows) -> bytes:
    """What `DataFrame.to_json` writes unless told otherwise."""
    return json.dumps({name: {str(n): row[name] for n, row in enumerate(rows)} for name in rows[0]}).encode()


def by_split(rows: Rows) -> bytes:
    """`DataFrame.to_json(orient="split")`."""
    table = {"columns": list(rows[0]), "index": list(range(len(rows))), "data": [list(row.values()) for row in rows]}
    return json.dumps(table).encode()


def delimited(
    delimiter: str, lineterminator: str = "\r\n", quoting: int = csv.QUOTE_MINIMAL
) -> Callable[[Rows], bytes]:
    def write(rows: Rows) -> bytes:
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=delimiter, lineterminator=lineterminator, quoting=quoting)
        writer.writerow(rows[0])
        writer.writerows(row.values() for row in rows)
        return text.getvalue().encode()

    return write


def parquet(rows: Rows) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), buffer)
    return buffer.getvalue()


def conll(rows: Rows) -> bytes:
    sentences = ("".join(f"{word}\t{tag}\n" for word, tag in zip(*row.values(), strict=True)) for row in rows)
    return "\n".join(sentences).encode()


def squad(rows: Rows) -> bytes:
    """The official nested form: articles of paragraphs of questions, in the order of the rows."""
    articles: list[dict[str, Any]] = []
    for row in rows:
        if not articles or articles[-1]["title"] != row["title"]:
            articles.append({"title": row["title"], "paragraphs": []})
        paragraphs = articles[-1]["paragraphs"]
        if not paragraphs or paragraphs[-1]["context"] != row["context"]:
            paragraphs.append({"context": row["context"], "qas": []})
        answers = row["answers"]
        golds = [
            {"text": text, "answer_start": start}
            for text, start in zip(answers["text"], answers["answer_start"], strict=True)
        ]
        paragraphs[-1]["qas"].append({"id": row["id"], "question": row["question"], "answers": golds})
    return json.dumps({"version": "v2.0", "data": articles}).encode()


def zstd(content: bytes) -> bytes:
    packed: bytes = pyarrow.Codec("zstd").compress(content, asbytes=True)
    return packed


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}

TABLES: dict[str, Callable[[Rows], bytes]] = {
    "lines.jsonl": json_lines,
    "array.json": json_array,
    "pretty.json": pretty_array,
    "data.json": under_data,
    "columns.json": by_columns,
    "split.json": by_split,
    "commas.csv": delimited(","),
    "newlines.csv": delimited(",", "\n"),
    "semicolons.csv": delimited(";"),
    "tabs.csv": delimited("\t"),
    "bars.csv": delimited("|", "\n"),
    "all.csv": delimited(",", quoting=csv.QUOTE_ALL),
    "tabs.tsv": delimited("\t", "\n"),
    "all.tsv": delimited("\t", quoting=csv.QUOTE_ALL),
    "semicolons.tsv": delimited(";", "\n"),
    "table.parquet": parquet,
}
"""File name -> what writes a table of texts."""

NESTED = ("lines.jsonl", "array.json", "pretty.json", "data.json", "columns.json", "split.json", "table.parquet")
"""Those that hold lists and objects too."""


ENDED_BY_NEWLINES = ("newlines.csv", "bars.csv", "tabs.tsv", "semicolons.tsv")


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
