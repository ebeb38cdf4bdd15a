from __future__ import annotations

import string
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.scheme import IOB2

from adapterkit.data import Rows
from adapterkit.errors import BackboneError, DataError
from adapterkit.metrics import ENTITY_METRICS, bootstrap, compare_entities, entities
from adapterkit.tasks import Batch, Task, Vocabulary
from adapterkit.tasks.tag_reader import HOW_TO_LIST
from tests.tasks.test_protocol import Make, Vocabularies
from tests.tiny import FAMILIES

KIND = "token-classification"
TAGS = ["O", "B-a", "I-a", "B-b", "I-b"]
SEEDS = [{"tokens": TAGS, "tags": TAGS}]
WORD = st.text(string.ascii_letters + string.digits + "äß.,'-½漢🎉", min_size=1, max_size=8)
ROW = st.lists(st.tuples(WORD, st.sampled_from(TAGS)), min_size=1, max_size=30)


def oracle(task: Task, batch: Batch) -> torch.Tensor:
    """Logits that put every labelled token's label first."""
    hot = torch.nn.functional.one_hot(batch.labels.clamp(min=0), task.classes).float()
    return hot * 9


def answers_of(task: Task, rows: Any, vocabulary: Vocabulary) -> Any:
    features = task.encode(rows, vocabulary, "score").features
    batch = task.collate(features, vocabulary)
    outputs = task.outputs(oracle(task, batch), batch)
    return features, outputs, task.predictions(rows, features, outputs)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=ROW, limit=st.integers(6, 24))
def test_labels_go_through_sub_tokens_and_windows_and_back(
    family: str, pairs: list[tuple[str, str]], limit: int, task_of: Make, vocabulary_of: Vocabularies
) -> None:
    words, tags = [word for word, _ in pairs], [tag for _, tag in pairs]
    rows = [{"tokens": words, "tags": tags}]
    task, vocabulary = task_of(KIND, SEEDS, max_tokens=limit), vocabulary_of(family)
    features, _, answers = answers_of(task, rows, vocabulary)
    seen = [word for feature in features for word in feature.extras["words"]]
    assert len(seen) == len(set(seen)), "a word is answered twice"
    assert answers[0]["tokens"] == words
    opened = [
        f"B-{tag[2:]}" if tag[:2] == "I-" and before[1:] != tag[1:] else tag for before, tag in pairwise(["O", *tags])
    ]
    assert answers[0]["tags"] == [tag if place in seen else "O" for place, tag in enumerate(opened)]
    assert all(feature.length_tokens <= limit for feature in features)
    labelled = sum(label >= 0 for feature in features for label in feature.labels)
    assert labelled == len(seen)
    assert sorted(seen) == list(range(len(words)))


def test_a_word_without_a_sub_token_is_answered_o_and_scored(task_of: Make, vocabulary_of: Vocabularies) -> None:
    # BERT's normaliser drops control characters, so the second word has no token.
    rows = [{"tokens": ["Ada", "\u0007", "slept"], "tags": ["B-a", "B-b", "O"]}]
    task = task_of(KIND, SEEDS)
    features, outputs, answers = answers_of(task, rows, vocabulary_of("bert"))
    assert answers[0]["tags"] == ["B-a", "O", "O"]
    assert answers[0]["scores"][1] == 0.0
    scores = task.score(rows, features, outputs, resamples=0)
    assert scores["accuracy"].value == pytest.approx(2 / 3)
    assert scores["entity_recall"].value == 0.5
    assert scores["entity_precision"].value == 1.0


def test_a_text_is_split_at_white_space_to_predict(task_of: Make, vocabulary_of: Vocabularies) -> None:
    task, vocabulary = task_of(KIND), vocabulary_of("bert")
    rows = [{"text": " Ada  lived\nin London "}, {"tokens": []}, {"tokens": [""]}]
    assert task.check_rows(rows, "predict").problems == []
    features = task.encode(rows, vocabulary, "predict").features
    batch = task.collate(features, vocabulary)
    answers = task.predictions(
        rows, features, task.outputs(torch.zeros(len(features), batch.inputs["input_ids"].shape[1], 3), batch)
    )
    assert [answer["tokens"] for answer in answers] == [["Ada", "lived", "in", "London"], [], [""]]


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [(["O", "B-x", "I-x"], "iob2"), (["NOUN", "VERB"], "flat"), (["O", "X"], "flat"), (["1", "2", "x"], "flat"),
     (["B-x", "NOUN"], "flat")],
)  # fmt: skip
def test_the_scheme_is_found(tags: list[Any], scheme: str, task_of: Make) -> None:
    assert task_of(KIND, [{"tokens": list(map(str, tags)), "tags": tags}]).to_dict()["scheme"] == scheme


def test_tags_that_break_the_scheme_are_named_by_line(task_of: Make) -> None:
    rows = Rows(
        [{"tokens": ["a", "b"], "tags": ["O", "B-x"]}, {"tokens": ["a", "b"], "tags": ["O", "B_x"]}], numbers=[4, 9]
    )
    with pytest.raises(DataError, match="row 9: tag 'B_x'"):
        task_of(KIND, rows)
    task = task_of(KIND, rows, tags="iob2")
    assert task.labels == ("B-x", "I-x", "O")
    assert task.check_rows(rows).problems == []
    assert task_of(KIND, rows, tags="flat").labels == ("B-x", "B_x", "O")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"tokens": ["a"], "tags": ["O", "O"]}, "1 tokens, but 2 tags"),
        (
            {"tokens": "a b", "tags": ["O", "O"]},
            f"tokens is str, expected a list of words; {HOW_TO_LIST}",
        ),
        (
            {"tokens": ["a"], "tags": "O"},
            f"tags is str, expected a list; {HOW_TO_LIST}",
        ),
        ({"tokens": ["a"]}, "no tags"),
        ({"tokens": [], "tags": []}, "no words"),
        ({"tokens": ["a"], "tags": [None]}, "tag None is not a tag"),
        ({"tokens": [None], "tags": ["O"]}, "tokens[0]: no word"),
        ({"tags": ["O"]}, "no tokens"),
    ],
)
def test_rows_that_cannot_be_used_say_why(row: dict[str, Any], reason: str, task_of: Make) -> None:
    assert task_of(KIND).problem_of(row, "train") == reason


def test_tag_numbers_stand_for_named_tags(task_of: Make, vocabulary_of: Vocabularies) -> None:
    rows = [{"tokens": ["a", "b"], "tags": [0, 1]}]
    task = task_of(KIND, rows, labels=("O", "B-x"))
    assert task.metrics[0] == "entity_f1"
    assert answers_of(task, rows, vocabulary_of("bert"))[2][0]["tags"] == ["O", "B-x"]


def test_a_word_without_a_sub_token_gets_the_most_frequent_flat_tag(task_of: Make, vocabulary_of: Vocabularies) -> None:
    rows = [{"tokens": ["a", "\u0007", "fox", "runs"], "tags": ["DET", "NOUN", "NOUN", "VERB"]}]
    assert answers_of(task_of(KIND, rows), rows, vocabulary_of("bert"))[2][0]["tags"] == rows[0]["tags"]


def test_unusable_tags_are_named_when_rows_are_encoded_unchecked(task_of: Make, vocabulary_of: Vocabularies) -> None:
    with pytest.raises(DataError, match="row 1: 1 tokens, but 2 tags"):
        task_of(KIND).encode([{"tokens": ["a"], "tags": ["O", "O"]}], vocabulary_of("bert"), "score")


def test_named_tags_that_break_the_scheme_are_refused(task_of: Make) -> None:
    with pytest.raises(DataError, match="found 'person'"):
        task_of(KIND, SEEDS, tags="iob2", labels=("O", "person", "B-a"))


def test_the_fallback_is_one_of_the_named_tags(task_of: Make) -> None:
    rows = [{"tokens": ["a"] * 5, "tags": ["X", "X", "X", "Y", "Y"]}]
    assert task_of(KIND, rows, labels=("Z", "Y")).to_dict()["fallback"] == "Y"


def test_one_tag_only_is_refused(task_of: Make) -> None:
    with pytest.raises(DataError, match="at least two tags"):
        task_of(KIND, [{"tokens": ["a"], "tags": ["O"]}])


def test_a_slow_tokenizer_is_refused_with_the_reason(task_of: Make, vocabulary_of: Vocabularies) -> None:
    class Slow:
        is_fast = False

    vocabulary = vocabulary_of("bert")
    slow = Vocabulary(Slow(), vocabulary.max_tokens, vocabulary.pad_id)
    for kind in (KIND, "question-answering"):
        with pytest.raises(BackboneError, match="fast tokenizer"):
            task_of(kind).encode([], slow)


TAG_ROWS = st.lists(
    st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), min_size=1), min_size=1, max_size=6
)


@settings(max_examples=60, deadline=None)
@given(TAG_ROWS)
@pytest.mark.filterwarnings("ignore:.*ill-defined.*")
def test_entity_scores_are_seqeval_s_strict_ones(rows: list[list[tuple[str, str]]]) -> None:
    gold, predicted = [[tag for tag, _ in row] for row in rows], [[tag for _, tag in row] for row in rows]
    compared = compare_entities(gold, predicted)
    found = bootstrap(compared.items, compared.formulas, ENTITY_METRICS, resamples=0)
    options: dict[str, Any] = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
    assert found["entity_f1"].value == pytest.approx(f1_score(gold, predicted, **options))
    assert found["entity_precision"].value == pytest.approx(precision_score(gold, predicted, **options))
    assert found["entity_recall"].value == pytest.approx(recall_score(gold, predicted, **options))


def test_an_entity_starts_with_b() -> None:
    assert entities(["I-a", "B-a", "I-a", "I-b", "B-b"]) == [("a", 1, 3), ("b", 4, 5)]


def test_class_weights_count_words(task_of: Make) -> None:
    rows = [{"tokens": ["a"] * 4, "tags": ["X", "X", "X", "Y"]}]
    assert task_of(KIND, rows).class_weights(None, rows) is None
    assert task_of(KIND, rows).label_counts(rows) == {"X": 3, "Y": 1}
    assert task_of(KIND, rows).class_weights("balanced", rows) == pytest.approx([2 / 3, 2.0])


def test_the_loss_is_torch_s_over_all_words(task_of: Make, vocabulary_of: Vocabularies) -> None:
    rows = [{"tokens": ["Ada", "lived", "there"], "tags": ["B-x", "O", "O"]}, {"tokens": ["So"], "tags": ["O"]}]
    task, vocabulary = task_of(KIND, rows), vocabulary_of("bert")
    features = task.encode(rows, vocabulary, "score").features
    batch = task.collate(features, vocabulary)
    logits = torch.randn(*batch.labels.shape, task.classes, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=-100)
    loss = task.score(rows, features, task.outputs(logits, batch), resamples=0)["loss"]
    assert loss.value == pytest.approx(expected.item(), rel=1e-6)
    assert not loss.higher_is_better
