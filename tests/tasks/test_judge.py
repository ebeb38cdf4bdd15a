"""How sure an answer was and whether it was right, of every kind, by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from adapterkit.metrics import Judged
from adapterkit.tasks import TASKS
from adapterkit.tasks.language_model import Likelihood
from adapterkit.tasks.protocol import GeneratingTask
from tests.tasks.conftest import FAMILY, ROWS
from tests.tasks.test_protocol import Make, Vocabularies


def judged(task_of: Make, vocabulary_of: Vocabularies, kind: str, rows: Any, logits: Any, **settings: Any) -> Judged:
    """What a task says of logits: (B, C), or a function of the batch."""
    task, vocabulary = task_of(kind, rows, **settings), vocabulary_of("bert")
    features = task.encode(rows, vocabulary, "score").features
    batch = task.collate(features, vocabulary)
    outputs = task.outputs(logits(batch) if callable(logits) else torch.tensor(logits), batch)
    found = task.compared(rows, features, outputs).judged
    assert found is not None
    return found


def test_of_one_label_it_is_the_label_s_probability(task_of: Make, vocabulary_of: Vocabularies) -> None:
    # Labels are animal, card. 3 : 1 for card, which is right; 1 : 4 against animal, which is wrong.
    rows = [{"text": "a", "label": "card"}, {"text": "b", "label": "animal"}]
    found = judged(task_of, vocabulary_of, "text-classification", rows, np.log([[1.0, 3.0], [1.0, 4.0]]))
    assert found.confidence == pytest.approx([0.75, 0.8])
    assert found.right.tolist() == [1, 0]
    assert found.squared == pytest.approx([2 * 0.25**2, 2 * 0.8**2])
    assert found.nats == pytest.approx([-math.log(0.75), -math.log(0.2)])


def test_of_several_labels_it_is_the_product(task_of: Make, vocabulary_of: Vocabularies) -> None:
    # p(a) = 0.75, p(b) = 0.2: {a} is answered, with 0.75 × 0.8. {a, b} would have had 0.75 × 0.2.
    rows = [{"text": "a", "label": ["a"]}, {"text": "b", "label": ["a", "b"]}]
    logits = np.log([[3.0, 0.25]] * 2)
    found = judged(task_of, vocabulary_of, "text-classification", rows, logits, problem="multi-label")
    assert found.confidence == pytest.approx([0.6, 0.6])
    assert found.right.tolist() == [1, 0]
    assert found.nats == pytest.approx([-math.log(0.6), -math.log(0.15)])


def test_of_choices_a_row_has_its_own(task_of: Make, vocabulary_of: Vocabularies) -> None:
    rows = [
        {"question": "q", "choices": ["x", "y", "z"], "label": 1},
        {"question": "q", "choices": ["x", "y"], "label": 0},
    ]
    # The second row has no third choice, whatever a head says of its place.
    found = judged(task_of, vocabulary_of, "multiple-choice", rows, np.log([[1.0, 2, 1], [1, 3, 96]]))
    assert found.confidence == pytest.approx([0.5, 0.75])
    assert found.right.tolist() == [1, 0]
    assert found.squared == pytest.approx([0.5**2 + 2 * 0.25**2, 2 * 0.75**2])


def test_of_tags_it_is_the_product_over_words(task_of: Make, vocabulary_of: Vocabularies) -> None:
    rows = [{"tokens": ["Ada", "ran"], "tags": ["B-a", "O"]}]
    task = task_of("token-classification", rows)

    def logits(batch: Any) -> torch.Tensor:  # p = 0.9 for O everywhere, the rest for the others alike
        share = torch.full((*batch.inputs["input_ids"].shape, task.classes), 0.1 / (task.classes - 1))
        share[..., task.labels.index("O")] = 0.9
        return share.log()

    found = judged(task_of, vocabulary_of, "token-classification", rows, logits)
    assert found.confidence == pytest.approx([0.81])
    assert found.right.tolist() == [0]
    assert found.nats == pytest.approx([-math.log(0.9) - math.log(0.1 / (task.classes - 1))])


def test_of_spans_it_is_the_share_among_candidates(task_of: Make, vocabulary_of: Vocabularies) -> None:
    rows = ROWS["question-answering"][:1]

    def logits(batch: Any) -> torch.Tensor:  # London stands alone
        found = torch.full((*batch.inputs["input_ids"].shape, 2), -50.0)
        found[0, batch.labels[0, 0], 0] = found[0, batch.labels[0, 1], 1] = 50.0
        return found

    found = judged(task_of, vocabulary_of, "question-answering", rows, logits)
    assert found.confidence == pytest.approx([1.0])
    assert (found.right.tolist(), found.nats) == ([1], None)


@pytest.mark.parametrize("kind", [kind for kind, task in TASKS.items() if task.proof == "score" or task.generates])
def test_texts_and_numbers_have_none(kind: str, task_of: Make, vocabulary_of: Vocabularies) -> None:
    task, features = task_of(kind), task_of(kind).encode(ROWS[kind], vocabulary_of(FAMILY[kind]), "score").features
    assert task.compared(ROWS[kind], features, [Likelihood(1.0, 1, 1)] * len(features)).judged is None
    assert isinstance(task, GeneratingTask) or kind == "masked-lm"
    regression = task_of("text-classification", [{"text": "a", "label": 0.5}], problem="regression")
    assert regression.compared([{"text": "a", "label": 0.5}], [], [np.array([0.5])]).judged is None
