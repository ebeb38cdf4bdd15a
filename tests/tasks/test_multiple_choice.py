from __future__ import annotations

from typing import Any

import pytest
import torch

from adapterkit.errors import DataError
from tests.tasks.conftest import ROWS
from tests.tasks.test_protocol import Make, Vocabularies

KIND = "multiple-choice"


def row_of(label: Any, choices: Any = ("red", "green", "blue")) -> dict[str, Any]:
    return {"question": "q", "choices": list(choices) if isinstance(choices, tuple) else choices, "label": label}


@pytest.mark.parametrize(
    ("row", "label"),
    [
        (row_of(2), 2),
        (row_of("B"), 1),
        (row_of("blue"), 2),
        (row_of("1"), 1),
        (row_of("A", ("x", "B")), 0),
        (row_of("A", ("x", "A")), None),
        (row_of("4", {"text": ["x", "y"], "label": ["3", "4"]}), 1),
        (row_of(3), None),
        (row_of("D"), None),
        (row_of(True), None),
        (row_of(1.0), 1),
    ],
)
def test_the_right_choice_is_found_by_position_text_name_or_letter(
    row: dict[str, Any], label: int | None, task_of: Make, vocabulary_of: Vocabularies
) -> None:
    task = task_of(KIND)
    if label is None:
        with pytest.raises(DataError):
            task.encode([row], vocabulary_of("bert"))
    else:
        assert task.problem_of(row, "train") is None
        assert task.encode([row], vocabulary_of("bert")).features[0].labels == label


@pytest.mark.parametrize(
    ("labels", "places"),
    [
        ([1, 2, 3, 1], [0, 1, 2, 0]),
        ([1.0, 2.0, 3.0], [0, 1, 2]),
        (["3", "1", "2"], [2, 0, 1]),
        ([0, 2, 1], [0, 2, 1]),
        ([0.0, 2.0], [0, 2]),
        (["a", "c", "b"], [0, 2, 1]),
        (["(A)", "C.", "b"], [0, 2, 1]),
        (["red", "blue", "green"], [0, 2, 1]),
        ([1, 3, 99], [0, 2]),
    ],
)
def test_a_column_of_labels_is_read_in_one_way(
    labels: list[Any], places: list[int], task_of: Make, vocabulary_of: Vocabularies
) -> None:
    rows = [row_of(label) for label in labels]
    task = task_of(KIND, rows)
    usable = task.check_rows(rows).rows
    assert [feature.labels for feature in task.encode(usable, vocabulary_of("bert"), "score").features] == places


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row_of(0), row_of(1), row_of(3)], "row 3: label 3 is a position counted from 1"),
        ([row_of("B"), row_of(2)], "row 2: label 2 is a position counted from 0 or a position counted from 1"),
        ([row_of("2", ("1", "2", "3"))], "right_choice: text or from-0"),
        ([row_of(1, ("0", "2", "1")), row_of(2, ("2", "0", "1"))], "label 1 is the text of a choice, choice 3"),
    ],
)
def test_labels_that_contradict_each_other_are_refused(rows: list[dict[str, Any]], message: str, task_of: Make) -> None:
    with pytest.raises(DataError, match=message):
        task_of(KIND, rows)


def test_digits_as_choices_are_read_by_text_or_by_position_but_never_both(
    task_of: Make, vocabulary_of: Vocabularies
) -> None:
    by_text = [row_of("7", ("5", "7", "2")), row_of("2", ("2", "4", "9"))]
    assert task_of(KIND, by_text).to_dict()["reading"] == "text"
    # 2 is a choice of the first row, and still a position: the second row has no choice "1".
    by_place = [row_of(2, ("2", "5", "7")), row_of(1, ("5", "7", "2")), row_of(0, ("5", "7", "2"))]
    task = task_of(KIND, by_place)
    assert [feature.labels for feature in task.encode(by_place, vocabulary_of("bert"), "score").features] == [2, 1, 0]
    said = task_of(KIND, [row_of("2", ("1", "2", "3"))], right_choice="from-0")
    assert said.encode([row_of("2", ("1", "2", "3"))], vocabulary_of("bert")).features[0].labels == 2


def test_the_reading_of_training_rows_is_kept(task_of: Make, vocabulary_of: Vocabularies) -> None:
    task = task_of(KIND, [row_of(1), row_of(3)])
    assert task.notes([row_of(1), row_of(3)]) == ["the label is read as a position counted from 1"]
    again = type(task).from_dict(task.to_dict())
    # 2 alone would be read from 0.
    assert again.encode([row_of(2)], vocabulary_of("bert"), "score").features[0].labels == 1
    with pytest.raises(DataError, match="those of training rows were a position counted from 1"):
        again.check_rows([row_of(0), row_of(2)], "score")


def test_labels_that_do_not_show_where_counting_begins_are_named(task_of: Make) -> None:
    rows = [row_of(1), row_of(2)]
    task = task_of(KIND, rows)
    assert task.to_dict()["reading"] == "from-0"
    assert "no label shows that it is not counted from 1" in task.notes(rows)[0]


def test_rows_without_a_right_choice_are_counted_by_their_reason(task_of: Make) -> None:
    rows = [row_of(0), row_of(-1), row_of(None), row_of(" "), row_of(9)]
    assert task_of(KIND).check_rows(rows, "score").problems == [
        (2, "label -1 stands for 'no label'"),
        (3, "no label"),
        (4, "no label"),
        (5, "label 9 is none of the 3 choices"),
    ]


@pytest.mark.parametrize("choices", [None, "red", ["red"], ["red", 3], {"label": ["a"]}])
def test_choices_that_are_none_are_refused(choices: Any, task_of: Make) -> None:
    assert task_of(KIND).problem_of(row_of(0, choices), "train") is not None


def test_rows_with_different_numbers_of_choices_share_a_batch(task_of: Make, vocabulary_of: Vocabularies) -> None:
    task, vocabulary, rows = task_of(KIND), vocabulary_of("bert"), ROWS[KIND]
    features = task.encode(rows, vocabulary).features
    batch = task.collate(features, vocabulary)
    assert batch.inputs["input_ids"].shape[:2] == (2, 3)
    assert (batch.inputs["attention_mask"].sum(dim=2) > 0).all()
    # The third choice of the second row is not there, however high its logit.
    outputs = task.outputs(torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.0, 99.0]]), batch)
    answers = task.predictions(rows, features, outputs)
    assert [answer["text"] for answer in answers] == ["a small boat", "lazy"]
    assert [len(answer["probabilities"]) for answer in answers] == [3, 2]
    # The right ones are 0 and 1: one of two.
    assert task.score(rows, features, outputs, resamples=0)["accuracy"].value == 0.5


def test_a_context_stands_before_question_and_choice(task_of: Make, vocabulary_of: Vocabularies) -> None:
    vocabulary = vocabulary_of("bert")
    rows = [{"context": "the fox jumps", "question": "who ?", "choices": ["fox", "dog"], "label": 0}]
    feature = task_of(KIND, rows).encode(rows, vocabulary).features[0]
    texts = [vocabulary.tokenizer.decode(ids) for ids in feature.inputs["input_ids"]]
    assert all(text.startswith("[CLS] the fox jumps [SEP]") for text in texts)
    assert [text.split()[-2] for text in texts] == ["fox", "dog"]
    assert feature.inputs["token_type_ids"][0][:5] == [0] * 5
    assert feature.inputs["token_type_ids"][0][5:] == [1] * (len(feature.inputs["input_ids"][0]) - 5)


def test_what_is_cut_away_is_counted_over_all_choices(task_of: Make, vocabulary_of: Vocabularies) -> None:
    rows = [{"question": "the quick brown fox", "choices": ["jumps", "the lazy dog"], "label": 0}]
    _, truncation, _ = task_of(KIND, rows, max_tokens=7).encode(rows, vocabulary_of("bert"))
    # Three special tokens leave four: 5 - 4 and 7 - 4 tokens are lost.
    assert (truncation.rows, truncation.tokens) == (1, 4)
