"""Rows handed over from memory: whatever library holds them, they come out as JSON lines would give them."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Callable
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from adapterkit.data import asked_of, named_rows, rows_of, splits_of
from adapterkit.errors import DataError
from adapterkit.recipe.columns import COLUMNS

ROWS = [{"text": "a", "label": "x", "score": 1.5}, {"text": "b", "label": None, "score": None}]


class Word(str, enum.Enum):  # noqa: UP042 - what users have
    """A text that is more than one."""

    A = "a"


HOLDERS: dict[str, Callable[[], Any]] = {
    "a list of dicts": lambda: [dict(row) for row in ROWS],
    "a tuple": lambda: tuple(ROWS),
    "NaN": lambda: [dict(ROWS[0]), {"text": "b", "label": float("nan"), "score": float("nan")}],
    "a dict of columns": lambda: {name: [row[name] for row in ROWS] for name in ROWS[0]},
    "a dict of arrays": lambda: {
        "text": np.array(["a", "b"]),
        "label": np.array(["x", None], dtype=object),
        "score": np.array([1.5, np.nan]),
    },
    "a DataFrame": lambda: pd.DataFrame(ROWS, index=[7, 7]),
    "a DataFrame of objects": lambda: pd.DataFrame(ROWS, dtype=object),
    "a DataFrame of categories": lambda: pd.DataFrame(ROWS).astype({"label": "category"}),
    "a DataFrame of nullable types": lambda: pd.DataFrame(ROWS).convert_dtypes(),
    "a DataFrame of Arrow's types": lambda: pd.DataFrame(ROWS).convert_dtypes(dtype_backend="pyarrow"),
    "a Dataset": lambda: datasets.Dataset.from_list(ROWS),
    "a formatted Dataset": lambda: datasets.Dataset.from_list(ROWS).with_format("numpy"),
    "a table of Arrow": lambda: pa.Table.from_pylist(ROWS),
    "numpy's scalars": lambda: [
        {"text": np.str_("a"), "label": "x", "score": np.float32(1.5)},
        {"text": Word("a").replace("a", "b"), "label": pd.NA, "score": pd.NaT},
    ],
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_rows_are_the_same_whatever_holds_them(holder: str) -> None:
    rows = rows_of(HOLDERS[holder]())
    assert list(rows) == ROWS
    assert [{name: type(value) for name, value in row.items()} for row in rows] == [
        {name: type(value) for name, value in row.items()} for row in ROWS
    ]
    assert rows.digest() == rows_of(ROWS).digest()
    assert rows.numbers == (1, 2)
    assert rows.source == "rows in memory"


def test_values_inside_become_plain_too() -> None:
    frame = pd.DataFrame({"n": pd.array([1, None], dtype="Int64"), "seen": [True, False]})
    frame["tokens"] = [np.array(["a", "b"]), np.array(["c"])]
    frame["spans"] = [{"start": np.int64(3)}, {"start": np.int64(4)}]
    frame["tags"] = [("B", "O"), ("O",)]
    frame["topics"] = [{"y", "x"}, set()]
    rows = list(rows_of(frame))
    first = {
        "n": 1,
        "seen": True,
        "tokens": ["a", "b"],
        "spans": {"start": 3},
        "tags": ["B", "O"],
        "topics": ["x", "y"],
    }
    assert rows[0] == first
    assert [type(rows[0][name]) for name in ("n", "seen")] == [int, bool]
    assert rows[1]["n"] is None
    assert rows_of([{"word": Word.A}])[0] == {"word": "a"}
    assert type(rows_of([{"word": Word.A}])[0]["word"]) is str


def test_whole_numbers_that_pandas_made_floats_stay_floats_for_the_task_to_read() -> None:
    assert rows_of(pd.DataFrame({"label": [1, 2, None]})).column("label") == [1.0, 2.0, None]


def test_class_numbers_of_a_dataset_come_as_their_names() -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    held = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=features)
    assert rows_of(held).column("label") == ["yes", "no", None]


def test_dates_stay_what_they_are_and_have_a_digest() -> None:
    rows = rows_of(pd.DataFrame({"day": [datetime.datetime(2026, 1, 2)]}))
    assert len(rows.digest()) == 64


# What is handed over, a piece of what is said.
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a generator": (lambda: (row for row in ROWS), "Write list(rows)"),
    "a stream": (lambda: datasets.Dataset.from_list(ROWS).to_iterable_dataset(), "take(n) of a stream"),
    "all splits": (lambda: datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}), "splits: train"),
    "texts": (lambda: ["a", "b"], "row 1: found str, expected a mapping"),
    "one row": (lambda: ROWS[0], "Put one row into a list"),
    "columns of other lengths": (lambda: {"text": ["a"], "label": []}, "found lengths text: 1, label: 0"),
    "no rows": (list, "expected: at least one"),
    "an empty frame": (lambda: pd.DataFrame({"text": []}), "expected: at least one"),
    "a column twice": (lambda: pd.DataFrame([[1, 2]], columns=["a", "a"]), "column 'a': stands there twice"),
    "columns by number": (lambda: pd.DataFrame([[1, 2]]), "column 0: its name is no text"),
    "keys that are no text": (lambda: [{1: "a"}], "row 1: found a column whose name is no text"),
    "a number": (lambda: 3, "found int, expected a list of dicts"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_rows_is_refused_with_the_way_out(what: str) -> None:
    make, said = REFUSED[what]
    with pytest.raises(DataError) as caught:
        rows_of(make())
    assert said in str(caught.value)


def test_columns_are_found_and_types_checked_as_in_files() -> None:
    needs = COLUMNS["text-classification"]
    rows = named_rows(rows_of([{"Sentence": "a", "intent": "x"}, {"Sentence": "b"}]), needs=needs)
    assert list(rows) == [{"text": "a", "label": "x"}, {"text": "b", "label": None}]
    assert rows.reading.columns == {"text": "Sentence", "label": "intent"}
    with pytest.raises(DataError, match="label: required"):
        named_rows(rows_of([{"text": "a"}]), needs=needs)
    with pytest.raises(DataError) as caught:
        named_rows(rows_of([{"text": "a", "label": "x"}, {"text": 3, "label": "x"}]), needs=needs)
    assert caught.value.problems == ("row 2, column text: a number, but text on row 1; a column holds one type",)


def test_splits_may_have_their_usual_names_and_settings_beside_rows() -> None:
    rows, settings = splits_of({"train": ROWS, "dev": pd.DataFrame(ROWS), "test": "test.csv"})
    assert {part: list(found) for part, found in rows.items()} == {"train": ROWS, "validation": ROWS}
    assert settings == {"test": "test.csv"}
    assert splits_of({"train": ROWS, "validation": None})[1] == {"validation": None}
    with pytest.raises(DataError) as caught:
        splits_of({"train": ROWS, "training": ROWS, "unsupervised": ROWS})
    assert len(caught.value.problems) == 2
    with pytest.raises(DataError, match="no splits"):
        splits_of(ROWS)


def test_what_is_asked_may_go_by_once_and_may_be_texts() -> None:
    assert list(asked_of(text for text in ("a", "b"))) == ["a", "b"]
    assert list(asked_of(pd.Series(["a", "b"]))) == ["a", "b"]
    assert list(asked_of(np.array(["a", "b"]))) == ["a", "b"]
    assert list(asked_of(pd.DataFrame(ROWS))) == ROWS
