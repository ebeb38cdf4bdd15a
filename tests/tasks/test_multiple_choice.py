from __future__ import annotations

from typing import Any

import pytest
import torch

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
        (row_of("A", ("x", "A")), 1),
        (row_of("4", {"text": ["x", "y"], "label": ["3", "4"]}), 1),
        (row_of(3), None),
        (row_of("D"), None),
        (row_of(True), None),
        (row_of(1.0), None),
    ],
)
def test_the_right_choice_is_found_by_position_text_name_or_letter(
    row: dict[str, Any], label: int | None, task_of: Make, vocabulary_of: Vocabularies
) -> None:
    task = task_of(KIND)
    assert (task.problem_of(row, "train") is None) == (label is not None)
    if label is not None:
        assert task.encode([row], vocabulary_of("bert")).features[0].labels == label


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
