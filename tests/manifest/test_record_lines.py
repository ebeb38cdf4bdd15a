"""Files of records, whatever a crash or a stranger has left in them."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest

from adapterkit.errors import OutputError
from adapterkit.manifest.record_lines import append_record, lines_of, read_records

RECORDS = [{"point": "größe=é🦊"}, {"point": "b", "value": 0.5}, {"point": "日本"}]


def check(value: Any) -> None:
    if not isinstance(value, dict) or not isinstance(value.get("point"), str):
        raise ValueError


def test_what_was_added_is_read(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    assert read_records(path, check) == []
    for record in RECORDS:
        append_record(path, record)
    assert read_records(path, check) == RECORDS
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == RECORDS


def test_what_json_has_no_word_for_is_null() -> None:
    assert (
        lines_of([{"values": [math.nan, 1.0], "of": {"f1": -math.inf}}])
        == b'{"values": [null, 1.0], "of": {"f1": null}}\n'
    )


def test_a_line_may_be_cut_off_at_any_byte_and_the_next_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    whole = lines_of(RECORDS)
    ends = [len(lines_of(RECORDS[:count])) for count in range(4)]
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        # A line is whole as soon as only its newline is missing.
        kept = RECORDS[: sum(cut >= end - 1 for end in ends[1:])]
        assert read_records(path, check) == kept
        append_record(path, {"point": "next"})
        assert read_records(path, check) == [*kept, {"point": "next"}]


@pytest.mark.parametrize(
    "line",
    [b"[]", b"{}", b"1", b"null", b'"point"', b'{"point": 1}', b'{"point": null}', b"[" * 20 + b"]" * 20],
    ids=lambda line: line.decode()[:8],
)
def test_json_that_is_no_record_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line: bytes
) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(lines_of(RECORDS[:1]) + line + b"\n" + lines_of(RECORDS[1:]))
    with caplog.at_level(logging.WARNING):
        assert read_records(path, check) == RECORDS
    assert f"{path}: left out what is no record of it: line 2" in caplog.text


@pytest.mark.parametrize(
    "line",
    [b"\xff", b"\0" * 40, b"[" * 100_000, b'{"point": NaN}', b'{"point": "a", "point": "b"}', b'{"point": "\\ud800"}'],
    ids=["no text", "zeros", "deep", "NaN", "twice", "half a pair"],
)
def test_what_is_no_json_is_left_out(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(lines_of(RECORDS[:1]) + line + b"\n" + lines_of(RECORDS[1:]))
    assert read_records(path, check) == RECORDS


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "file" / "records.jsonl"):
        (tmp_path / "file").touch()
        for act in (lambda path=path: append_record(path, {}), lambda path=path: read_records(path, check)):
            with pytest.raises(OutputError) as caught:
                act()
            assert str(path) in caught.value.problems[0]
