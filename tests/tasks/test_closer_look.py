"""What a person looks at after scoring, on answers of which the right ones are known by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix

from adapterkit.adapted import build
from adapterkit.recipe import HeadSettings, LoraMethod
from adapterkit.report.page import render
from adapterkit.tasks import TASKS
from adapterkit.tasks.closer_look import look_at, worst_answers
from adapterkit.tasks.language_model import Likelihood
from adapterkit.tasks.values import Feature
from tests.tasks.conftest import FAMILY, ROWS, task_of, vocabulary_of
from tests.tasks.test_protocol import Make, Vocabularies

__all__ = ["task_of", "vocabulary_of"]


def outcome(task: Any, vocabulary: Any, rows: Any, logits: Any) -> tuple[Any, ...]:
    features = task.encode(rows, vocabulary, "score").features
    batch = task.collate(features, vocabulary)
    return task, rows, features, task.outputs(torch.tensor(np.asarray(logits)), batch)


def test_confusions_of_one_label_are_those_of_scikit_learn(task_of: Make, vocabulary_of: Vocabularies) -> None:
    chance = np.random.default_rng(0)
    rows = [{"text": str(n), "label": "abc"[n % 3]} for n in range(60)]
    logits = chance.normal(size=(60, 3))
    found = look_at(*outcome(task_of("text-classification", rows), vocabulary_of("bert"), rows, logits), show=True)
    counts = {(right, given): count for right, given, count in found["confused"]}
    expected = confusion_matrix(
        [row["label"] for row in rows], ["abc"[k] for k in logits.argmax(1)], labels=list("abc")
    )
    assert [[counts.get((right, given), 0) for given in "abc"] for right in "abc"] == expected.tolist()
    wrong = 60 - int(np.trace(expected))
    assert len(found["errors"]) == min(wrong, 50)
    sure = [error["confidence"] for error in found["errors"]]
    assert sure == sorted(sure, reverse=True)


def test_errors_name_the_row_and_both_answers(task_of: Make, vocabulary_of: Vocabularies) -> None:
    # Labels are animal, card: the first row is answered rightly, the second is not.
    rows = [{"text": "a", "label": "card"}, {"text": "b", "label": "animal"}]
    of = outcome(task_of("text-classification", rows), vocabulary_of("bert"), rows, np.log([[1.0, 3.0], [1.0, 4.0]]))
    (error,) = worst_answers(*of)
    assert error == {
        "row": 2, "given": "b", "expected": "animal", "answered": "card", "confidence": pytest.approx(0.8),
    }  # fmt: skip
    hidden = look_at(*of, show=False)
    assert hidden["errors"] == [{"row": 2, "confidence": error["confidence"]}]
    assert "data.show_rows" in hidden["hidden"]


def test_labels_of_several_are_missed_or_invented(task_of: Make, vocabulary_of: Vocabularies) -> None:
    # {a} is answered {a, b}; {a, b} is answered {b}.
    rows = [{"text": "x", "label": ["a"]}, {"text": "y", "label": ["a", "b"]}]
    task = task_of("text-classification", rows, problem="multi-label")
    of = outcome(task, vocabulary_of("bert"), rows, [[2.0, 2.0], [-2.0, 2.0]])
    assert sorted(look_at(*of, show=True)["confused"]) == sorted(
        [["a", "a", 1], ["–", "b", 1], ["a", "–", 1], ["b", "b", 1]]
    )


def test_numbers_are_grouped_by_the_right_one(task_of: Make, vocabulary_of: Vocabularies) -> None:
    # Off by 1, 2, 3, 4 at 0, 1, 2, 3: one row in each quarter but the last, which the highest two share.
    rows = [{"text": str(n), "label": float(n)} for n in range(5)]
    task = task_of("text-classification", rows, problem="regression")
    of = outcome(task, vocabulary_of("bert"), rows, [[1.0], [3.0], [5.0], [7.0], [4.0]])
    found = look_at(*of, show=True)
    assert found["groups"]["measure"] == "mean absolute error"
    assert found["groups"]["rows"] == [["0 to 1", 1.0, 1], ["1 to 2", 2.0, 1], ["2 to 3", 3.0, 1], ["3 to 4", 2.0, 2]]
    assert [error["row"] for error in found["errors"]] == [4, 3, 2, 1]


def test_perplexity_is_told_by_length(task_of: Make) -> None:
    # Two tokens at 1 nat each, then two rows of four tokens at 2 nats each.
    rows = [{"text": "a"}, {"text": "b"}, {"text": "c"}]
    features = [Feature(row, row, {}, None, 4) for row in range(3)]
    outputs = [Likelihood(2.0, 2, 0), Likelihood(8.0, 4, 0), Likelihood(8.0, 4, 0)]
    found = look_at(task_of("causal-lm"), rows, features, outputs, show=True)
    assert found["groups"]["rows"] == [["up to 2", pytest.approx(math.e), 1], ["up to 4", pytest.approx(math.e**2), 2]]
    assert [error["row"] for error in found["errors"]] == [2, 3, 1]


def test_answers_are_told_by_the_question_word(task_of: Make) -> None:
    rows = [
        {"question": "Where is it?", "context": "at home", "answers": {"text": ["at home"], "answer_start": [0]}},
        {"question": "And who?", "context": "Ada did", "answers": {"text": ["Ada"], "answer_start": [0]}},
        {"question": "Name it", "context": "a boat", "answers": {"text": ["boat"], "answer_start": [2]}},
    ]
    task = task_of("question-answering", rows)
    given = [
        {"answer": "home", "confidence": 0.5},
        {"answer": "Ada", "confidence": 0.5},
        {"answer": "", "confidence": 0},
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(task), "predictions", lambda *_: given)
        groups = task.compared(rows, [], []).groups
    # "home" beside "at home": precision 1, recall 1/2, so F1 2/3.
    assert groups is not None
    assert groups.rows == [("another", 0.0, 1), ("where", pytest.approx(2 / 3), 1), ("who", 1.0, 1)]


@pytest.mark.parametrize("kind", TASKS)
def test_every_kind_gives_a_page_that_is_plain_json(
    kind: str, task_of: Make, vocabulary_of: Vocabularies, tiny_backbones: Any
) -> None:
    with build(tiny_backbones[FAMILY[kind]], task_of(kind), LoraMethod(), HeadSettings(), 0) as adapted:
        features = adapted.task.encode(ROWS[kind], adapted.vocabulary, "score").features
        found = look_at(adapted.task, ROWS[kind], features, adapted.outputs(features, batch_size=2), show=True)
    read = json.loads(json.dumps(found, allow_nan=False))
    assert found["confused"] or found["groups"]
    assert "<h2>test" in render({"title": kind, "splits": [{**read, "split": "test", "metrics": {}}]})
