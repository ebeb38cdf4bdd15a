"""Broken, cut and hostile files: rows or a DataError that names the place, in bounded time and memory."""

from __future__ import annotations

import bz2
import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapterkit.data import read_rows, stream_rows
from adapterkit.data.files import compression, text
from adapterkit.errors import DataError
from tests.data import writers

NAMES = ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.conll", "a.txt", "a", "a.csv.gz", "a.json.zst", "a.parquet"]
TABLE = [{"text": f"größe {n}", "label": '"x", y'} for n in range(3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


def read(path: Path) -> Any:
    """The rows in memory and as a stream, or the error; nothing else may come of a file."""
    try:
        rows = list(read_rows(path))
    except DataError as error:
        with pytest.raises(DataError):
            list(stream_rows(path))
        return error
    # A file may have a column that first appears behind what a stream looks at.
    assert len(list(stream_rows(path))) == len(rows)
    return rows


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40)
@given(content=st.binary(max_size=200) | st.text('{}[]",:;\t\n\r\\0aé', max_size=60).map(str.encode))
@example(content=b"\x1f\x8b\x08")
@example(content=b"\x28\xb5\x2f\xfd")
@example(content=b"PAR1PAR1")
@example(content=b"PK\x03\x04")
@example(content=b"\xff\xfe\x00")
@example(content=b"[" * 5_000)
@example(content=b'{"a":' * 5_000)
def test_any_bytes_give_rows_or_a_data_error(name: str, folder: Path, content: bytes) -> None:
    read(writers.write(folder / name, content))


@pytest.mark.parametrize("name", ["lines.jsonl", "pretty.json", "data.json", "commas.csv", "tabs.tsv", "table.parquet"])
@pytest.mark.parametrize("ending", ["", ".gz", ".zst", ".bz2", ".xz"])
@settings(max_examples=15)
@given(data=st.data())
def test_a_file_that_was_changed_or_cut_gives_rows_or_a_data_error(
    name: str, ending: str, folder: Path, data: st.DataObject
) -> None:
    content = bytearray(writers.PACKERS[ending](writers.TABLES[name](TABLE)))
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[place:]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    found = read(writers.write(folder / (name + ending), bytes(content)))
    if isinstance(found, DataError):
        assert name in str(found)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, writers.zstd], ids=["gzip", "bzip2", "Zstandard"])
@pytest.mark.parametrize("piece", [b"\n", b" ", b"0", b'{"a": "b"}\n'], ids=["blank lines", "space", "digits", "rows"])
def test_an_archive_that_unpacks_to_far_more_is_refused_in_little_memory(
    pack: Any, piece: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "UNCHECKED_BYTES", 2**16)
    path = writers.write(tmp_path / "bomb.jsonl", pack(piece * (2**20 // len(piece))))
    tracemalloc.start()
    with pytest.raises(DataError, match="unpacks to more than its size allows"):
        for _ in stream_rows(path):
            pass
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_a_long_line_is_a_row_and_one_without_an_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": "x" * 10_000_000}, {"text": "y"}]
    for name in ("lines.jsonl", "array.json", "commas.csv"):
        content = writers.TABLES[name]([{**row, "label": "z"} for row in rows])
        assert [len(row["text"]) for row in read_rows(writers.write(tmp_path / name, content))] == [10_000_000, 1]
    for module in (text, "adapterkit.data.files.json_document"):
        monkeypatch.setattr(
            *((module, "LONGEST_LINE_BYTES") if module is text else (f"{module}.LONGEST_LINE_BYTES",)), 2**20
        )
    for name in ("lines.jsonl", "commas.csv", "array.json"):
        with pytest.raises(DataError) as caught:
            read_rows(tmp_path / name)
        assert "expected at most that" in caught.value.problems[0]


def test_reading_an_array_holds_no_more_than_its_rows(tmp_path: Path) -> None:
    rows = [{"text": f"{n} " + "x" * 2_000, "label": "y"} for n in range(10_000)]
    path = writers.write(tmp_path / "a.json", json.dumps(rows).encode())
    tracemalloc.start()
    assert sum(1 for _ in stream_rows(path)) == 10_000
    assert tracemalloc.get_traced_memory()[1] < path.stat().st_size // 2
    tracemalloc.stop()


def test_values_that_python_cannot_hold_and_numbers_without_a_name_are_data_errors(tmp_path: Path) -> None:
    far = pyarrow.array([2**40], pyarrow.int64()).cast(pyarrow.timestamp("s"))
    pyarrow.parquet.write_table(pyarrow.table({"day": far}), tmp_path / "far.parquet")
    half = pyarrow.StringArray.from_buffers(1, pyarrow.py_buffer(b"\0\0\0\0\1\0\0\0"), pyarrow.py_buffer(b"\xff"))
    pyarrow.parquet.write_table(pyarrow.table({"text": half}), tmp_path / "half.parquet")
    features = datasets.Features({"label": datasets.ClassLabel(names=["no", "yes"])})
    pyarrow.parquet.write_table(
        pyarrow.table({"label": [1, 7]}, schema=features.arrow_schema), tmp_path / "class.parquet"
    )
    for name in ("far", "half", "class"):
        assert isinstance(read(tmp_path / f"{name}.parquet"), DataError)


def test_a_link_in_a_circle_a_pipe_and_a_name_with_a_nul_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "circle.jsonl").symlink_to(tmp_path / "circle.jsonl")
    for source in (
        tmp_path / "circle.jsonl",
        "a\x00b.jsonl",
        "/dev/zero",
        "x" * 5_000 + ".jsonl",
        tmp_path / ("y" * 300),
    ):
        with pytest.raises(DataError):
            read_rows(source)
