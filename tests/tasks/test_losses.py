"""The losses of transformers' own classes are the second opinion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from adapterkit.errors import RecipeError
from adapterkit.recipe.task import TaskSettings
from adapterkit.tasks import TASKS
from adapterkit.tasks.losses import binary_cross_entropy, cross_entropy, masked_cross_entropy
from adapterkit.tasks.values import IGNORED
from tests.tasks.conftest import ROWS
from tests.tasks.test_protocol import Make, Vocabularies

# fp32 sums in another order.
TOLERANCE = 1e-6

TEXTS = ["my card was lost", "the fox jumps", "seven small boats"]
MULTI_LABEL = [{"text": text, "label": label} for text, label in zip(TEXTS, [["a"], [], ["a", "b"]], strict=True)]
NUMBERS = [{"text": text, "label": value} for text, value in zip(TEXTS, [0.5, 2.0, -1.25], strict=True)]
# transformers' span loss lets padding take part, so the second opinion needs windows of equal length.
EQUAL_WINDOWS = [ROWS["question-answering"][0]] * 2

CASES = [
    ("text-classification", "bert", "AutoModelForSequenceClassification", None),
    ("text-classification", "gpt2", "AutoModelForSequenceClassification", None),
    ("text-classification", "bert", "AutoModelForSequenceClassification", MULTI_LABEL),
    ("text-classification", "roberta", "AutoModelForSequenceClassification", NUMBERS),
    ("token-classification", "bert", "AutoModelForTokenClassification", None),
    ("token-classification", "llama", "AutoModelForTokenClassification", None),
    ("question-answering", "distilbert", "AutoModelForQuestionAnswering", EQUAL_WINDOWS),
    ("multiple-choice", "roberta", "AutoModelForMultipleChoice", [ROWS["multiple-choice"][0]] * 2),
    ("masked-lm", "bert", "AutoModelForMaskedLM", None),
    ("masked-lm", "modernbert", "AutoModelForMaskedLM", None),
    ("causal-lm", "gpt2", "AutoModelForCausalLM", None),
    ("causal-lm", "llama", "AutoModelForCausalLM", None),
    ("causal-lm", "qwen2", "AutoModelForCausalLM", None),
    ("seq2seq-lm", "t5", "AutoModelForSeq2SeqLM", None),
    ("seq2seq-lm", "bart", "AutoModelForSeq2SeqLM", None),
]
PROBLEMS = {
    "single-label": "single_label_classification",
    "multi-label": "multi_label_classification",
    "regression": "regression",
}


@pytest.mark.parametrize(("kind", "family", "auto_class", "rows"), CASES)
def test_total_over_weight_is_transformers_own_loss(
    kind: str,
    family: str,
    auto_class: str,
    rows: Any,
    tiny_folders: Mapping[str, Path],
    vocabulary_of: Vocabularies,
) -> None:
    rows = ROWS[kind] if rows is None else rows
    task = TASKS[kind].prepare(TaskSettings(kind=kind), rows)  # type: ignore[arg-type]
    vocabulary = vocabulary_of(family)
    settings: dict[str, Any] = {"num_labels": task.classes} if task.classes else {}
    if task.problem:
        settings["problem_type"] = PROBLEMS[task.problem]
    model = getattr(transformers, auto_class).from_pretrained(tiny_folders[family], **settings).eval()
    model.config.pad_token_id = vocabulary.pad_id
    batch = task.collate(task.encode(rows, vocabulary).features, vocabulary, seed=0)
    labels = {"labels": batch.labels}
    if kind == "question-answering":
        labels = {"start_positions": batch.labels[:, 0], "end_positions": batch.labels[:, 1]}
    with torch.no_grad():
        output = model(**batch.inputs, **labels)
    logits = output.logits if "logits" in output else torch.stack([output.start_logits, output.end_logits], dim=-1)
    assert float(task.loss(logits, batch).mean) == pytest.approx(float(output.loss), rel=TOLERANCE, abs=TOLERANCE)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_class_weights_and_smoothing_are_torch_s(smoothing: float, weighted: bool) -> None:
    chance = torch.Generator().manual_seed(0)
    logits, target = torch.randn(9, 4, generator=chance), torch.tensor([0, 1, 2, 3, IGNORED, 0, 0, 1, 2])
    weights = torch.tensor([0.5, 2.0, 1.0, 3.0]) if weighted else None
    expected = torch.nn.CrossEntropyLoss(weight=weights, label_smoothing=smoothing)(logits, target)
    assert float(cross_entropy(logits, target, smoothing, weights).mean) == pytest.approx(float(expected), rel=1e-6)


def test_nothing_labelled_gives_zero_and_a_gradient_of_zeros() -> None:
    logits = torch.randn(3, 4, requires_grad=True)
    for weights in (None, torch.ones(4)):
        loss = cross_entropy(logits, torch.full((3,), IGNORED), 0.1, weights)
        assert (float(loss.total.detach()), float(loss.weight), float(loss.mean.detach())) == (0.0, 0.0, 0.0)
        loss.mean.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros(3, 4))
    choices = masked_cross_entropy(logits, torch.full((3,), IGNORED), torch.ones(3, 4, dtype=torch.bool), 0.1)
    assert float(choices.mean.detach()) == 0.0


def test_missing_choices_take_no_probability_and_no_smoothing() -> None:
    logits = torch.tensor([[1.0, 2.0, 9.0]])
    there = torch.tensor([[True, True, False]])
    for smoothing in (0.0, 0.2):
        expected = torch.nn.functional.cross_entropy(logits[:, :2], torch.tensor([0]), label_smoothing=smoothing)
        loss = masked_cross_entropy(logits, torch.tensor([0]), there, smoothing)
        assert float(loss.mean) == pytest.approx(float(expected), rel=1e-6)


def test_a_missing_choice_gets_no_gradient() -> None:
    logits = torch.tensor([[1.0, 2.0, 9.0]], requires_grad=True)
    masked_cross_entropy(logits, torch.tensor([0]), torch.tensor([[True, True, False]]), 0.1).mean.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0, 2] == 0


def test_positive_weights_multiply_the_positive_terms() -> None:
    logits, target, weights = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), torch.tensor([3.0, 5.0])
    # Each term is log 2; the positive one counts three times: (3 + 1) · log 2 over two elements.
    assert float(binary_cross_entropy(logits, target, weights).mean) == pytest.approx(2 * 0.693147, rel=1e-5)


@pytest.mark.parametrize("rows", [MULTI_LABEL, NUMBERS])
def test_smoothing_is_refused_where_labels_are_no_distribution(
    rows: Any, task_of: Make, vocabulary_of: Vocabularies
) -> None:
    task, vocabulary = task_of("text-classification", rows), vocabulary_of("bert")
    batch = task.collate(task.encode(rows, vocabulary).features, vocabulary)
    with pytest.raises(RecipeError, match="label smoothing"):
        task.loss(torch.zeros(3, task.classes), batch, label_smoothing=0.1)


def test_padding_takes_no_part_in_the_span_loss(task_of: Make, vocabulary_of: Vocabularies) -> None:
    task, vocabulary = task_of("question-answering"), vocabulary_of("bert")
    features = task.encode(ROWS["question-answering"], vocabulary).features
    short = task.collate(features, vocabulary)
    long = task.collate(features, vocabulary, multiple=64)
    logits = torch.randn(2, long.inputs["input_ids"].shape[1], 2)
    alone = task.loss(logits[:, : short.inputs["input_ids"].shape[1]], short)
    assert float(task.loss(logits, long).mean) == pytest.approx(float(alone.mean), rel=1e-6)
