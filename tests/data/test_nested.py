"""Lists that tables hold as text."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from adapterkit.data import read_rows, stream_rows
from adapterkit.data.nested import parse_nested
from adapterkit.errors import DataError
from adapterkit.recipe.columns import COLUMNS

NEEDS = COLUMNS["text-classification"]


def table(path: Path, labels: list[Any]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([f"text {place}", label] for place, label in enumerate(labels))
    return path


@pytest.mark.parametrize(
    "value",
    [["a", "b"], [], ["it's", 'a "b"'], [1, 0, 0], [1.0, 0.5], [True, False], ["a, b", "c|d"], {"text": ["x"], "n": 3}],
)
@pytest.mark.parametrize("write", [json.dumps, str])
def test_what_json_and_python_write_is_read_back(value: Any, write: Any) -> None:
    assert parse_nested(write(value)) == value


@pytest.mark.parametrize("value", [[1, 0, 0], [1.0, 0.0], ["a", "b c"], [True, False], list(range(60))])
def test_what_numpy_prints_is_read_back(value: list[Any]) -> None:
    assert parse_nested(str(np.array(value))) == value


def test_what_pandas_writes_of_a_hub_s_answers_is_read_back() -> None:
    answers = {"text": np.array(["a cat"], dtype=object), "answer_start": np.array([515], dtype=np.int32)}
    assert parse_nested(repr(answers)) == {"text": ["a cat"], "answer_start": [515]}


@pytest.mark.parametrize(
    "text", ["a", "[CLS]", "[a, b]", "[1, 2", "['a' 'b',]", "{1, 2}", "[" * 5000 + "]" * 5000, "[f()]"]
)
def test_what_writes_no_list_is_none(text: str) -> None:
    assert parse_nested(text) is None


@pytest.mark.parametrize("read", [read_rows, lambda *args, **needs: stream_rows(*args, **needs).take(10)])
def test_a_column_of_lists_is_read_as_lists(tmp_path: Path, read: Any) -> None:
    rows = read(table(tmp_path / "a.csv", ["['a', 'b']", "", '["b"]', "[]"]), needs=NEEDS)
    assert rows.column("label") == [["a", "b"], None, ["b"], []]


def test_a_frame_keeps_its_lists_through_a_file(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"text": ["x", "y"], "label": [np.array([1, 0, 0]), np.array([0, 1, 1])]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert read_rows(tmp_path / "a.csv", needs=NEEDS).column("label") == [[1, 0, 0], [0, 1, 1]]


def test_texts_are_never_read_as_lists(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "[1, 2]", "label": "x"}\n{"text": "[3]", "label": "y"}\n')
    assert read_rows(tmp_path / "a.jsonl", needs=NEEDS).column("text") == ["[1, 2]", "[3]"]


def test_names_in_brackets_stay_names(tmp_path: Path) -> None:
    assert read_rows(table(tmp_path / "a.csv", ["[POS]", "[NEG]"]), needs=NEEDS).column("label") == ["[POS]", "[NEG]"]


@pytest.mark.parametrize("read", [read_rows, stream_rows])
@pytest.mark.parametrize(
    ("labels", "line"), [(["['a', 'b']", "c"], 3), (["[a, b]", "[c]"], 2), (["['a']", "['a', b]"], 3)]
)
def test_a_column_that_is_neither_is_refused_with_both_ways(
    tmp_path: Path, labels: list[str], line: int, read: Any
) -> None:
    with pytest.raises(DataError, match=rf"line {line}, column label: .* cannot be read as a list") as caught:
        read(table(tmp_path / "a.csv", labels), needs=NEEDS)
    assert '["a", "b"]' in caught.value.remedy
    assert 'task.label_separator: "|"' in caught.value.remedy


def test_a_later_cell_that_is_no_list_stops_a_stream(tmp_path: Path) -> None:
    stream = stream_rows(table(tmp_path / "a.csv", ["['a']"] * 300 + ["b"]), needs=NEEDS)
    with pytest.raises(DataError, match="line 302, column label: 'b' cannot be read as a list"):
        list(stream)
