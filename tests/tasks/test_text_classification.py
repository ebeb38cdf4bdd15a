from __future__ import annotations

from typing import Any

import pytest
import torch

from adapterkit.data import Rows
from adapterkit.errors import DataError, RecipeError
from tests.tasks.test_protocol import Make, Vocabularies

KIND = "text-classification"


def rows_of(*labels: Any) -> list[dict[str, Any]]:
    return [{"text": f"text {place}", "label": label} for place, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("labels", "problem", "names", "classes"),
    [
        (["b", "a", "b"], "single-label", ("a", "b"), 2),
        ([10, 9, 10], "single-label", ("9", "10"), 2),
        ([True, False], "single-label", ("False", "True"), 2),
        ([1.0, 0.0], "single-label", ("0", "1"), 2),
        (["10", "9"], "single-label", ("9", "10"), 2),
        ([["b", "a"], []], "multi-label", ("a", "b"), 2),
        ([0.5, 1, 2], "regression", (), 1),
        (["3.8", "4"], "regression", (), 1),
        ([[0.5, 1], [1, 2]], "regression", (), 2),
    ],
)
def test_the_problem_and_the_labels_are_learned_from_the_rows(
    labels: list[Any], problem: str, names: tuple[str, ...], classes: int, task_of: Make
) -> None:
    task = task_of(KIND, rows_of(*labels))
    assert (task.problem, task.labels, task.classes) == (problem, names, classes)


def test_what_the_recipe_says_wins(task_of: Make) -> None:
    assert task_of(KIND, rows_of("a", "b"), labels=("b", "a", "c")).labels == ("b", "a", "c")
    assert task_of(KIND, rows_of(1, 2, 3), problem="regression").problem == "regression"
    assert task_of(KIND, rows_of("1.5", "2.5"), problem="single-label").labels == ("1.5", "2.5")


@pytest.mark.parametrize(
    ("labels", "message"),
    [(["a", "a"], "at least two labels"), (["a", ["b"]], "two forms"), ([[0.5], [0.5, 1.5]], "different numbers"),
     ([float("inf")] * 2, "finite"), ([None, float("nan")], "no label"), (["", " "], "no label"), ([{}, {}], "dict")],
)  # fmt: skip
def test_labels_that_cannot_be_learned_are_refused(labels: list[Any], message: str, task_of: Make) -> None:
    with pytest.raises(DataError, match=message):
        task_of(KIND, rows_of(*labels))


def test_nan_targets_are_named_by_line(task_of: Make) -> None:
    rows = Rows(rows_of(0.5, float("nan"), 1.5, "x", float("inf"), -1e39), numbers=[2, 4, 6, 8, 10, 12])
    task = task_of(KIND, rows.select([0, 2]))
    assert task.check_rows(rows).problems == [
        (4, "no label"),
        (8, "label 'x' is not a number"),
        (10, "label is inf, expected a finite number"),
        (12, "label -1e+39 is beyond float32, whose largest number is 3.4e+38"),
    ]


def test_labels_that_only_the_test_rows_have_are_named(task_of: Make, vocabulary_of: Vocabularies) -> None:
    task = task_of(KIND, rows_of("a", "b"))
    with pytest.raises(DataError) as caught:
        task.encode(
            Rows(rows_of("a", "new", "b", "new", "other"), numbers=[1, 3, 5, 7, 9]), vocabulary_of("bert"), "score"
        )
    assert caught.value.problems == ("'new': row 3, row 7", "'other': row 9")
    assert "'a', 'b'" in str(caught.value)


def test_class_numbers_stand_for_named_labels(task_of: Make, vocabulary_of: Vocabularies) -> None:
    task = task_of(KIND, rows_of(0, 1), labels=("no", "yes"))
    features = task.encode(rows_of(1, "no", "1"), vocabulary_of("bert")).features
    assert [feature.labels for feature in features] == [1, 0, 1]


def test_a_pair_is_read_together_and_only_where_it_is(task_of: Make, vocabulary_of: Vocabularies) -> None:
    vocabulary = vocabulary_of("bert")
    rows = [
        {"text": "my card", "text_pair": "the bank", "label": "a"},
        {"text": "my card", "text_pair": None, "label": "b"},
    ]
    first, second = task_of(KIND, rows).encode(rows, vocabulary).features
    assert vocabulary.tokenizer.decode(first.inputs["input_ids"]) == "[CLS] my card [SEP] the bank [SEP]"
    assert first.inputs["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1]
    assert vocabulary.tokenizer.decode(second.inputs["input_ids"]) == "[CLS] my card [SEP]"


def test_what_is_cut_away_is_counted(task_of: Make, vocabulary_of: Vocabularies) -> None:
    rows = Rows([{"text": "my card was lost", "label": "a"}, {"text": "the bank", "label": "b"}], numbers=[7, 8])
    features, truncation, _ = task_of(KIND, rows, max_tokens=5).encode(rows, vocabulary_of("bert"))
    assert [feature.length_tokens for feature in features] == [5, 4]
    assert (truncation.rows, truncation.tokens, truncation.of_rows, truncation.places) == (1, 1, 2, ("row 7",))
    assert str(truncation) == "1 of 2 rows cut, 1 tokens lost (row 7)"


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2", "llama", "t5"])
def test_a_text_without_a_word_still_has_a_token(family: str, task_of: Make, vocabulary_of: Vocabularies) -> None:
    rows = [{"text": "\u00ad", "label": "a"}, {"text": "\u200b", "label": "b"}]  # which tokenizers drop
    task = task_of(KIND, rows)
    batch = task.collate(task.encode(rows, vocabulary_of(family)).features, vocabulary_of(family))
    assert (batch.inputs["attention_mask"].sum(dim=1) >= 1).all()


def test_class_weights_are_scikit_learn_s_balanced_ones(task_of: Make) -> None:
    rows = rows_of("a", "a", "a", "b")
    # n / (C · count): 4 / (2 · 3) and 4 / (2 · 1).
    assert task_of(KIND, rows).class_weights("balanced", rows) == pytest.approx([2 / 3, 2.0])
    assert task_of(KIND, rows).class_weights({"b": 5.0}, rows) == [1.0, 5.0]
    several = rows_of(["a"], ["a", "b"], ["a"], [])
    # Negatives / positives: 1 / 3 and 3 / 1.
    assert task_of(KIND, several).class_weights("balanced", several) == pytest.approx([1 / 3, 3.0])


def test_labels_are_counted_by_the_task_s_names(task_of: Make) -> None:
    rows = rows_of(1.0, 0.0, 1)
    assert task_of(KIND, rows).label_counts(rows) == {"0": 1, "1": 2}
    several = rows_of(["a"], ["a", "b"], [])
    assert task_of(KIND, several).label_counts(several) == {"a": 2, "b": 1}
    assert task_of(KIND, rows_of(0.5, 1.5)).label_counts(rows_of(0.5)) == {}


def test_numbers_are_scored_against_numbers_as_text(task_of: Make, vocabulary_of: Vocabularies) -> None:
    rows, vocabulary = rows_of("0.5", "1.5", "4"), vocabulary_of("bert")
    task = task_of(KIND, rows)
    features = task.encode(rows, vocabulary, "score").features
    batch = task.collate(features, vocabulary)
    assert batch.labels.tolist() == [[0.5], [1.5], [4.0]]
    outputs = task.outputs(torch.tensor([[1.5], [2.5], [5.0]]), batch)
    found = task.score(rows, features, outputs, resamples=0)
    assert found["pearson"].value == pytest.approx(1.0)
    assert found["mse"].value == pytest.approx(1.0)
    assert task.main_metric == "pearson"
    assert task.higher_is_better("mse") is False


def test_class_weights_that_fit_no_label_are_refused(task_of: Make) -> None:
    rows = rows_of("a", "b")
    with pytest.raises(RecipeError) as caught:
        task_of(KIND, rows).class_weights({"c": 1.0, "a": -1.0}, rows)
    assert len(caught.value.problems) == 2
    numbers = rows_of(0.5, 1.5)
    with pytest.raises(RecipeError, match="class weights"):
        task_of(KIND, numbers).class_weights("balanced", numbers)


def test_answers_name_labels_with_their_probabilities(task_of: Make, vocabulary_of: Vocabularies) -> None:
    vocabulary = vocabulary_of("bert")

    def answer(labels: list[Any], logits: list[float]) -> dict[str, Any]:
        rows = rows_of(*labels)
        task = task_of(KIND, rows)
        features = task.encode(rows[:1], vocabulary, "predict").features
        outputs = task.outputs(torch.tensor([logits]), task.collate(features, vocabulary))
        return task.predictions(rows[:1], features, outputs)[0]

    # softmax(0, log 3) = (1/4, 3/4); sigmoid(log 3) = 3/4.
    single = answer(["no", "yes"], [0.0, 1.0986123])
    assert single["label"] == "yes"
    assert single["probabilities"] == pytest.approx({"no": 0.25, "yes": 0.75})
    several = answer([["a"], ["b"]], [1.0986123, -1.0986123])
    assert several["labels"] == ["a"]
    assert several["probabilities"] == pytest.approx({"a": 0.75, "b": 0.25})
    assert answer([0.5, 1.5], [2.5]) == {"value": 2.5}
    assert answer([[0.5, 1.0], [1.5, 2.0]], [2.5, 1.0]) == {"values": [2.5, 1.0]}
