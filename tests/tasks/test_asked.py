"""Rows as people write them, read into a task's own columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from adapterkit.errors import BadRowError
from adapterkit.recipe import KINDS, TaskSettings
from adapterkit.tasks import TASKS
from adapterkit.tasks.asked import Asked, text_column
from adapterkit.tasks.protocol import Task
from tests.tasks.conftest import ROWS

Make = Callable[..., Task]

TEXT_COLUMN = {
    "text-classification": "text",
    "token-classification": "text",
    "question-answering": None,
    "multiple-choice": None,
    "masked-lm": "text",
    "causal-lm": "text",
    "seq2seq-lm": "source",
}


def asked_of(kind: str, trained_with: Mapping[str, str] | None = None) -> Asked:
    return Asked(TASKS[kind].prepare(TaskSettings(kind=kind), ROWS[kind]), trained_with or {})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_the_same_under_the_task_s_names_an_alias_and_training_s_names(kind: str, task_of: Make) -> None:
    task = task_of(kind)
    targets = {name for name, column in task.columns.items() if column.target}
    for row in ROWS[kind]:
        plain = {name: value for name, value in row.items() if name not in targets}
        by_alias = {(*task.columns[name].aliases, name)[0]: value for name, value in plain.items()}
        own = {name: f"the {name} of training" for name in plain}
        trained = {own[name]: value for name, value in plain.items()}
        for written in (plain, by_alias, trained, {**trained, "more": 3}, row):
            assert Asked(task, own).read(written) == plain


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_text_fills_the_one_column_that_is_needed(kind: str, task_of: Make) -> None:
    column = TEXT_COLUMN[kind]
    assert text_column(task_of(kind)) == column
    found = Asked(task_of(kind)).read("the quick brown fox")
    if column is None:
        assert isinstance(found, BadRowError)
        assert str(found).startswith(f"found a text, and {kind} reads several columns: give a dict of them")
    else:
        assert found == {column: "the quick brown fox"}


@pytest.mark.parametrize(
    ("trained_with", "row", "expected"),
    [
        # What training named wins over the task's own name, as it did in training's file.
        ({"text": "body"}, {"text": "raw", "body": "clean"}, {"text": "clean"}),
        ({"text": "body"}, {"text": "raw"}, {"text": "raw"}),
        # Names that were crossed in training are training's only where the whole row is written so.
        ({"text": "a", "text_pair": "text"}, {"a": "1", "text": "2"}, {"text": "1", "text_pair": "2"}),
        ({"text": "a", "text_pair": "text"}, {"text": "1", "text_pair": "2"}, {"text": "1", "text_pair": "2"}),
        # A target, whatever it is called, is nothing to be read.
        ({"label": "sentence"}, {"text": "1", "sentence": "2"}, {"text": "1"}),
        ({}, {"premise": "1", "hypothesis": "2", "label": ["no", {"label": 1}]}, {"text": "1", "text_pair": "2"}),
    ],
)
def test_names_of_columns_mean_what_they_meant_in_training(
    trained_with: dict[str, str], row: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert asked_of("text-classification", trained_with).read(row) == expected


@pytest.mark.parametrize(
    ("row", "summary"),
    [
        ({"txt": "a"}, "no text; did you mean 'text' by 'txt'?"),
        ({"sayd": "a"}, "no text; did you mean 'said' by 'sayd'?"),
        ({"number": 1}, "no text"),
        ({}, "no text"),
        ({"text": 3, "txt": "a"}, "text is int, expected text"),
        (7, "found int, expected a dict with the task's columns, or text"),
    ],
)
def test_a_row_that_cannot_be_answered_says_why_and_what_a_row_has(row: Any, summary: str) -> None:
    found = asked_of("text-classification", {"text": "said"}).read(row)
    assert isinstance(found, BadRowError)
    assert found.summary == summary
    assert found.remedy == "A row of text-classification has: text (said in training), text_pair."
    assert found.as_json() == {
        "code": "bad_row",
        "message": f"{summary}{'' if summary.endswith('?') else '.'} {found.remedy}",
    }


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_whatever_is_asked_is_a_row_or_an_error(kind: str, data: st.DataObject) -> None:
    asked = asked_of(kind)
    names = [name for name, column in asked.task.columns.items() for name in (name, *column.aliases)]
    keys = st.sampled_from([*names, "role", "content"]) | st.text(max_size=5)
    row = data.draw(st.dictionaries(keys, VALUES, max_size=4) | VALUES)
    found = asked.read(row)
    assert isinstance(found, BadRowError) or (
        asked.task.problem_of(found, "predict") is None and found.keys() <= set(asked.task.columns)
    )
