"""Which column of a file holds which canonical column."""

from dataclasses import dataclass

import pytest

from adapterkit.data import match_columns, read_rows, rename
from adapterkit.errors import DataError


@dataclass(frozen=True)
class Need:
    required: bool
    aliases: tuple[str, ...] = ()
    nested: bool = False
    separable: bool = False
    instead: tuple[str, ...] = ()


NEEDS = {"text": Need(True, ("sentence", "utterance")), "label": Need(True, ("intent",)), "id": Need(False)}


def test_what_was_asked_for_wins_then_the_name_then_an_alias():
    matched = match_columns(["text", "title", "intent"], {"text": "title"}, NEEDS)
    assert matched == {"text": "title", "label": "intent"}
    assert match_columns(["text", "sentence", "label"], {}, NEEDS) == {"text": "text", "label": "label"}
    assert match_columns(["utterance", "sentence", "intent"], {}, NEEDS) == {"text": "sentence", "label": "intent"}


def test_a_column_that_stands_instead_of_a_required_one_is_enough():
    needs = {"source": Need(True, ("input",), instead=("instruction",)), "instruction": Need(False)}
    assert match_columns(["instruction"], {}, needs) == {"instruction": "instruction"}
    assert match_columns(["input", "instruction"], {}, needs) == {"instruction": "instruction", "source": "input"}
    with pytest.raises(DataError, match="columns that are needed"):
        match_columns(["other"], {}, needs)


def test_one_column_is_not_taken_twice_by_an_alias():
    needs = {"text": Need(True, ("body",)), "label": Need(False, ("body",))}
    assert match_columns(["body"], {}, needs) == {"text": "body"}


def test_all_problems_come_at_once_with_the_nearest_names():
    with pytest.raises(DataError) as caught:
        match_columns(["Text", "lable"], {"text": "txet", "labels": "lable"}, NEEDS, "a.csv")
    assert caught.value.problems == (
        "columns.text: no column 'txet'; did you mean Text?",
        "columns.labels: the task has no such column; it has text, label, id; did you mean label?",
        "label: required, but there is no column of that name; did you mean lable?",
        "columns found: 'Text', 'lable'",
    )
    assert caught.value.summary.startswith("a.csv ")


def test_without_needs_any_canonical_name_goes():
    assert match_columns(["a"], {"source": "a"}) == {"source": "a"}


def test_renaming_keeps_other_columns_and_the_canonical_one_wins():
    row = {"question": "why", "text": "shadowed", "id": 7}
    assert rename(row, {"text": "question"}) == {"text": "why", "id": 7}


def test_rows_come_under_canonical_names(tmp_path):
    (tmp_path / "a.csv").write_text("utterance,intent,note\nhello,greet,x\n")
    rows = read_rows(tmp_path / "a.csv", needs=NEEDS)
    assert list(rows) == [{"text": "hello", "label": "greet", "note": "x"}]


def test_types_are_checked_only_in_the_columns_that_are_needed(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"text": "a", "label": "x", "note": 1}\n{"text": "b", "label": "x", "note": "y"}\n'
    )
    assert len(read_rows(tmp_path / "a.jsonl", needs=NEEDS)) == 2
    with pytest.raises(DataError, match="cannot be read"):
        read_rows(tmp_path / "a.jsonl")


def test_a_column_that_only_broken_lines_have_is_reported_as_broken_lines(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": "b", "label": \n')
    with pytest.raises(DataError) as caught:
        read_rows(tmp_path / "a.jsonl", needs=NEEDS)
    assert caught.value.problems[0].startswith("line 2: not valid JSON")
