"""One JSON object per line."""

from __future__ import annotations

import json
import math
from pathlib import Path

from adapterkit.training.journal import Journal, read_journal


def test_events_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "training" / "journal.jsonl"
    with Journal(path) as journal:
        journal.write("begin", step=0, rows={"train": 3})
        journal.write("step", step=1, loss=0.5, seconds=0.1)
    assert read_journal(path) == [
        {"event": "begin", "step": 0, "rows": {"train": 3}},
        {"event": "step", "step": 1, "loss": 0.5, "seconds": 0.1},
    ]


def test_what_json_has_no_word_for_is_null(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.write("score", values=[math.nan, 1.0], metrics={"f1": math.inf})
    assert json.loads((tmp_path / "j").read_text()) == {
        "event": "score",
        "values": [None, 1.0],
        "metrics": {"f1": None},
    }


def test_going_on_drops_what_came_after_and_a_line_that_a_crash_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path) as journal:
        for step in (1, 2, 3):
            journal.write("note", step=step)
    path.write_text(path.read_text() + '{"event": "no')
    assert [event["step"] for event in read_journal(path)] == [1, 2, 3]
    with Journal(path, resume_after=2) as journal:
        journal.write("note", step=30)
    assert [event["step"] for event in read_journal(path)] == [1, 2, 30]
    with Journal(path):
        pass
    assert read_journal(path) == []


def test_a_journal_without_a_file_writes_nothing(tmp_path: Path) -> None:
    with Journal(None) as journal:
        journal.write("step", step=1)
    assert list(tmp_path.iterdir()) == []


def test_lines_that_are_no_events_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path) as journal:
        journal.write("step", step=1, loss=0.5, seconds=0.1)
    whole = path.read_bytes()
    strange = [
        '{"event": "step", "step": 2}',
        '{"event": "step", "step": -1, "loss": 1.0, "seconds": 1.0}',
        "{}",
        "[1]",
    ]
    strange += ['{"event": "validation", "step": 2, "metrics": [], "kept": true}', '{"event": 1}', '{"step": "2"}']
    path.write_bytes("\n".join(strange).encode() + b"\n" + whole + '{"event": "é'.encode()[:-1])
    assert read_journal(path) == [{"event": "step", "step": 1, "loss": 0.5, "seconds": 0.1}]
    with Journal(path, resume_after=1):
        pass
    assert path.read_bytes() == whole
