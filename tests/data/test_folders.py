"""Folders and patterns: which files they mean, and what is told of those left aside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapterkit.data import read_rows, stream_rows
from adapterkit.errors import DataError
from adapterkit.recipe.columns import COLUMNS
from adapterkit.recipe.data import DataSettings

CLASSIFY = COLUMNS["text-classification"]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.delenv("ADAPTERKIT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lay(files: dict[str, str]) -> None:
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content, encoding="utf-8")


def lines(*texts: str) -> str:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)


def texts(source: str, **arguments: Any) -> list[str]:
    rows = read_rows(source, **arguments)
    assert list(stream_rows(source, **arguments)) == list(rows)
    found: list[str] = rows.column("text")
    return found


def test_a_pattern_gives_all_that_it_names_in_order() -> None:
    lay({"d/b.jsonl": lines("3"), "d/a.jsonl": lines("1", "2"), "d/c.csv": "text\n4\n", "d/deep/e.jsonl": lines("5")})
    assert texts("d/*.jsonl") == ["1", "2", "3"]
    assert texts("d/**/*.jsonl") == ["1", "2", "3", "5"]
    assert texts("d/[ac].*") == ["1", "2", "4"]
    rows = read_rows("d/*.jsonl")
    assert rows.numbers == (1, 2, 3)
    assert rows.reading.notes == ("2 files: a.jsonl, b.jsonl",)
    with pytest.raises(DataError, match="No file matches d/x\\*"):
        read_rows("d/x*")


def test_a_file_whose_name_looks_like_a_pattern_is_that_file() -> None:
    lay({"a[1].jsonl": lines("1"), "a1.jsonl": lines("2")})
    assert texts("a[1].jsonl") == ["1"]


def test_a_broken_line_is_named_with_its_file() -> None:
    lay({"d/a.jsonl": lines("1"), "d/b.jsonl": lines("2") + "oops\n"})
    with pytest.raises(DataError) as caught:
        read_rows("d")
    assert caught.value.problems[0].startswith("b.jsonl line 2: not valid JSON")


def test_a_folder_gives_the_files_of_the_split_and_tells_what_is_left_aside() -> None:
    lay(
        {
            "d/train-00000.jsonl": lines("1"),
            "d/train-00001.jsonl": lines("2"),
            "d/dev.jsonl": lines("3"),
            "d/test.jsonl": lines("4"),
            "d/README.md": "about",
            "d/SOURCE.txt": "where from",
            "d/.hidden.jsonl": lines("5"),
        }
    )
    assert texts("d") == ["1", "2"]
    assert texts("d", split="validation") == ["3"]
    assert texts("d", split="test") == ["4"]
    notes = read_rows("d").reading.notes
    assert notes[0] == "2 files: train-00000.jsonl, train-00001.jsonl"
    assert notes[1] == "left aside: README.md, SOURCE.txt, dev.jsonl, test.jsonl"
    assert texts("d", settings=DataSettings(splits={"test": "dev"}), split="test") == ["3"]


def test_a_folder_without_splits_gives_all_its_files() -> None:
    lay({"d/2019.csv": "text,label\na,x\n", "d/2020.csv": "text,label\nb,y\n", "d/LICENSE": "free"})
    assert texts("d") == ["a", "b"]


def test_folders_called_after_splits_count_before_the_files_in_them() -> None:
    lay({"d/train/test_cases.jsonl": lines("1"), "d/test/training_cases.jsonl": lines("2")})
    assert texts("d") == ["1"]
    assert texts("d", split="test") == ["2"]


def test_folders_of_texts_are_classes() -> None:
    lay({"d/train/pos/1.txt": "good\n\nfilm\n", "d/train/neg/2.txt": "bad", "d/test/pos/3.txt": "fine"})
    lay({"d/test/neg/4.txt": "poor"})
    rows = read_rows("d", needs=CLASSIFY)
    assert list(rows) == [{"text": "bad", "label": "neg"}, {"text": "good\n\nfilm", "label": "pos"}]
    assert rows.reading.notes[0] == "2 text files, each one row; labels are the folders: neg, pos"
    assert texts("d", split="test") == ["poor", "fine"]


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"d/a.csv": "text\n1\n", "d/b.jsonl": lines("2")}, "found: 1 csv, 1 jsonl"),
        ({"d/notes": "x"}, "found: 1 files, none with a known ending"),
        ({"d/test.jsonl": lines("1")}, "found: files of test"),
    ],
)
def test_a_folder_in_which_it_cannot_be_told_is_refused(files: dict[str, str], problem: str) -> None:
    lay(files)
    with pytest.raises(DataError) as caught:
        read_rows("d")
    assert caught.value.problems[0] == problem
