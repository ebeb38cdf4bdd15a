"""Rows that come in to be answered: every one with its place, whatever it is."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from adapterkit.data.incoming import Incoming, each_line, each_row
from adapterkit.errors import BadRowError, DataError


def shown(rows: list[Incoming]) -> list[Any]:
    return [(place, "bad" if isinstance(row, BadRowError) else row) for place, row in rows]


def test_the_first_line_says_whether_lines_are_texts_or_objects() -> None:
    assert shown(list(each_line(["a\n", '{"text": "b"}\r\n', " \n", "c"]))) == [
        ("line 1", "a"),
        ("line 2", '{"text": "b"}'),
        ("line 3", "bad"),
        ("line 4", "c"),
    ]
    found = list(each_line(["\n", ' {"text": "a"}\n', "a\n", '{"a": 1, "a": 2}\n', "[1]\n", '{"a": NaN}\n']))
    assert shown(found) == [
        ("line 1", "bad"),
        ("line 2", {"text": "a"}),
        *((f"line {number}", "bad") for number in (3, 4, 5, 6)),
    ]
    assert [str(row) for _, row in found[2:]] == [
        "not valid JSON (Expecting value at character 1)",
        "the key 'a' stands there twice",
        'expected an object like {"text": …}, found a list',
        "NaN is not a JSON number; write null where a value is missing",
    ]


def test_a_line_of_a_file_that_is_no_row_keeps_its_place(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl.gz"
    lines = [b'{"said": "a"}', b"{", b"", b'{"said": "b\xff"}', b'{"other": 1}', b"3"]
    file.write_bytes(gzip.compress(b"\n".join(lines)))
    assert shown(list(each_row(file))) == [
        ("line 1", {"said": "a"}),
        ("line 2", "bad"),
        ("line 4", "bad"),
        ("line 5", {"other": 1}),
        ("line 6", "bad"),
    ]


def test_a_record_of_a_table_that_spans_lines_is_one_row(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(b'a,b\n1,"x\ny"\n1\n2,"x\n\xffy"\n3,\n')
    assert shown(list(each_row(file))) == [
        ("line 2", {"a": "1", "b": "x\ny"}),
        ("line 4", "bad"),
        ("line 5", "bad"),
        ("line 7", {"a": "3", "b": None}),
    ]


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        list(each_row(tmp_path / "rows.jsonl"))


def test_rows_are_read_one_by_one(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a"}\n' * 3 + "{\n", encoding="utf-8")
    rows = each_row(file)
    assert next(rows) == ("line 1", {"text": "a"})

    def endless() -> Any:
        while True:
            yield "a\n"

    assert next(each_line(endless())) == ("line 1", "a")
