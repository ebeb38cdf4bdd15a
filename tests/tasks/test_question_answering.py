from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapterkit.data import Rows
from adapterkit.errors import DataError
from adapterkit.tasks import Batch
from adapterkit.tasks.answers import best_spans, best_threshold, exact_match, f1, gold_answers, normalized
from tests.tasks.conftest import ROWS
from tests.tasks.test_protocol import Make, Vocabularies
from tests.tiny import FAMILIES

KIND = "question-answering"
WORDS = ["Ada", "lived", "in", "London", "the", "fox", "12", "eggs,", "(and)", "lemons", "\n", "über", "漢字"]


def row_of(question: str, context: str, *answers: tuple[str, int]) -> dict[str, Any]:
    return {
        "question": question,
        "context": context,
        "answers": {"text": [text for text, _ in answers], "answer_start": [start for _, start in answers]},
    }


def oracle(batch: Batch) -> torch.Tensor:
    """Logits with 5 at the first and the last token of every labelled span, 0 elsewhere."""
    logits = torch.zeros(*batch.inputs["input_ids"].shape, 2)
    for row, (first, last) in enumerate(batch.labels.tolist()):
        if first >= 0:
            logits[row, first, 0] = logits[row, last, 1] = 5.0
    return logits


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=40))
def test_the_gold_span_comes_back_from_whatever_window_holds_it(
    family: str, data: st.DataObject, words: list[str], task_of: Make, vocabulary_of: Vocabularies
) -> None:
    visible = [place for place, word in enumerate(words) if word.strip()]
    if not visible:
        return
    first = data.draw(st.sampled_from(visible))
    last = data.draw(st.sampled_from([place for place in visible if first <= place < first + 2]))
    context = " ".join(words)
    start = len(" ".join([*words[:first], ""])) if first else 0
    text = " ".join(words[first : last + 1])
    assert context[start : start + len(text)] == text
    rows = [row_of("who lived in London", context, (text, start))]
    task = task_of(KIND, rows, max_tokens=70, stride_tokens=24, max_answer_tokens=24)
    vocabulary = vocabulary_of(family)
    features = task.encode(rows, vocabulary).features
    assert all(feature.length_tokens <= 70 for feature in features)
    seen = {place for feature in features for span in feature.extras["offsets"] if span for place in range(*span)}
    assert seen >= {place for place, character in enumerate(context) if not character.isspace()}
    batch = task.collate(features, vocabulary)
    answer = task.predictions(rows, features, task.outputs(oracle(batch), batch))[0]
    if "[UNK]" not in vocabulary.tokenizer.decode(features[0].inputs["input_ids"]):
        assert answer["answer"] == context[answer["start"] : answer["stop"]]
    assert answer["answer"] == text
    assert (answer["start"], answer["stop"]) == (start, start + len(text))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_token_of_no_answer_is_no_possible_answer(family: str, task_of: Make, vocabulary_of: Vocabularies) -> None:
    rows = [row_of("who ?", "the quick brown fox jumps over the lazy dog " * 4, ("fox", 16))]
    for feature in task_of(KIND, rows, max_tokens=40, stride_tokens=8).encode(rows, vocabulary_of(family)).features:
        assert feature.extras["offsets"][feature.extras["null"]] is None


def test_the_best_span_is_found_as_by_trying_all() -> None:
    chance = torch.Generator().manual_seed(0)
    logits, mask = torch.randn(3, 12, 2, generator=chance), torch.rand(3, 12, generator=chance) > 0.3
    found = best_spans(logits, mask, torch.tensor([0, 1, 2]), longest=4, count=6)
    for row, span in enumerate(found):
        every = sorted(
            (
                (float(logits[row, first, 0] + logits[row, last, 1]), first, last)
                for first, last in itertools.product(range(12), repeat=2)
                if first <= last < first + 4 and mask[row, first] and mask[row, last]
            ),
            reverse=True,
        )
        assert list(zip(span.first, span.last, strict=True)) == [(first, last) for _, first, last in every[:6]]
        assert span.score.tolist() == pytest.approx([score for score, _, _ in every[:6]])
        assert span.null == pytest.approx(float(logits[row, row].sum()))


def test_a_window_without_a_context_token_has_no_answer(task_of: Make, vocabulary_of: Vocabularies) -> None:
    task, vocabulary = task_of(KIND), vocabulary_of("bert")
    rows = [{"question": "who ?", "context": "\u0007"}]  # BERT drops control characters
    features = task.encode(rows, vocabulary, "predict").features
    batch = task.collate(features, vocabulary)
    answer = task.predictions(
        rows, features, task.outputs(torch.zeros(1, len(features[0].extras["offsets"]), 2), batch)
    )[0]
    assert (answer["answer"], answer["start"], answer["candidates"]) == ("", None, [])


@pytest.mark.parametrize(
    ("predicted", "gold", "exact", "overlap"),
    [
        ("The Fox!", "fox", 1, 1),
        ("a quick fox", "the fox", 0, 2 / 3),  # shared 1, words 2 and 1
        ("in London , England", "London", 0, 0.5),  # shared 1, words 3 and 1
        ("fox fox", "fox", 0, 2 / 3),
        ("dog", "fox", 0, 0),
        ("", "", 1, 1),
        ("", "fox", 0, 0),
        ("the", "", 1, 1),
        ("3.5 %", "35", 1, 1),
    ],
)
def test_exact_match_and_f1_are_squad_s(predicted: str, gold: str, exact: float, overlap: float) -> None:
    assert exact_match(predicted, gold) == exact
    assert f1(predicted, gold) == pytest.approx(overlap)


def test_normalisation_drops_case_punctuation_articles_and_space() -> None:
    assert normalized("  The  U.S.A.'s\tan  answer, a ") == "usas answer"
    assert normalized("theory anthem") == "theory anthem"


def test_the_best_of_several_gold_answers_counts(task_of: Make, vocabulary_of: Vocabularies) -> None:
    rows, task, vocabulary = ROWS[KIND][1:], task_of(KIND), vocabulary_of("bert")
    features = task.encode(rows, vocabulary, "score").features
    batch = task.collate(features, vocabulary)
    outputs = task.outputs(oracle(batch), batch)
    assert task.score(rows, features, outputs, resamples=0)["exact_match"].value == 1.0


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (row_of("q", "the fox", ("fox", 3)), "answer 'fox' does not stand at character 3 of the context"),
        (row_of("q", "the fox", ("fox", 5), ("the", 9)), "answer 'fox' does not stand at character 5 of the context"),
        (row_of("q", "the fox"), "no answer, and the task has no unanswerable questions"),
        ({"question": "q", "context": "the fox"}, "no answers"),
        ({"question": "q", "context": "c", "answers": "fox"}, "answers is not {text: [...], answer_start: [...]}"),
        ({"question": "q", "context": "c", "answers": {"text": ["c"], "answer_start": []}},
         "answers is not {text: [...], answer_start: [...]}"),
        ({"question": "q", "context": " "}, "no context"),
        ({"question": 3, "context": "c"}, "question is int, expected text"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_used_say_why(row: dict[str, Any], reason: str, task_of: Make) -> None:
    assert task_of(KIND).problem_of(row, "train") == reason


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ("cafe\u0301", "cafe\u0301"),  # a combining mark belongs to its letter
        ("heart \u2764\ufe0f", "heart \u2764\ufe0f"),  # so does a variation selector
        ("London\u200b", "London"),  # a space without width
        ("\u200bLondon", "London"),
        ("Lon\u00addon\u00ad", "Lon\u00addon"),  # soft hyphens
    ],
)
def test_characters_without_a_token_take_no_answer_away(
    family: str, answer: str, shown: str, task_of: Make, vocabulary_of: Vocabularies
) -> None:
    context = f"Ada lived in {answer} for years"
    rows = [row_of("where ?", context, (answer, 13))]
    task, vocabulary = task_of(KIND, rows), vocabulary_of(family)
    (feature,) = task.encode(rows, vocabulary).features
    first, last = feature.labels
    offsets = feature.extras["offsets"]
    assert first != feature.extras["null"]
    assert context[offsets[first][0] : offsets[last][1]] in (answer, shown)


def test_rows_that_no_window_holds_are_counted_and_teach_no_span(task_of: Make, vocabulary_of: Vocabularies) -> None:
    long = "the quick brown fox jumps over the lazy dog " * 4
    rows = Rows(
        [
            row_of("who ?", long, (long.strip(), 0)),
            row_of("who ?", long, ("fox", 16)),
            row_of("?", "a\u200b", ("\u200b", 1)),
        ],
        numbers=[4, 5, 9],
    )
    task, vocabulary = task_of(KIND, rows, max_tokens=40, stride_tokens=8), vocabulary_of("bert")
    features, _, note = task.encode(rows, vocabulary)
    labels = [[feature.labels for feature in features if feature.row == row] for row in range(3)]
    assert set(labels[0]) == set(labels[2]) == {(-100, -100)}
    assert any(first != features[0].extras["null"] for first, _ in labels[1])
    assert note.startswith("2 of 3 rows have answers of which no window holds one whole")
    assert "(row 4, row 9)" in note


def test_of_several_answers_the_right_ones_are_used(task_of: Make, vocabulary_of: Vocabularies) -> None:
    rows = [row_of("who ?", "the quick brown fox", ("dog", 0), ("fox", 16))]
    task, vocabulary = task_of(KIND, rows), vocabulary_of("bert")
    assert task.check_rows(rows).problems == []
    (feature,) = task.encode(rows, vocabulary).features
    start, stop = (feature.extras["offsets"][feature.labels[end]][end] for end in (0, 1))
    assert (start, stop) == (16, 19)


def test_wrong_offsets_do_not_keep_a_row_from_being_scored(task_of: Make, vocabulary_of: Vocabularies) -> None:
    task, vocabulary = task_of(KIND), vocabulary_of("bert")
    rows = [row_of("q", "the fox", ("fox", 3)), row_of("q", "the fox", ("fox", 4))]
    assert task.check_rows(rows, "score").problems == []
    assert task.check_rows(rows, "train").problems[0][0] == 1
    features = task.encode(rows, vocabulary, "score").features
    batch = task.collate(features, vocabulary)
    assert float(task.loss(torch.zeros(*batch.inputs["input_ids"].shape, 2), batch).weight) == 1.0


def test_answers_are_read_in_both_known_forms() -> None:
    assert gold_answers([{"text": "fox", "answer_start": 4}]) == [("fox", 4)]
    assert gold_answers({"text": "fox", "answer_start": 4}) == [("fox", 4)]
    assert gold_answers({"text": ["fox"]}) == [("fox", None)]
    assert gold_answers({"text": [], "answer_start": []}) == gold_answers([]) == []
    assert gold_answers({"text": [3], "answer_start": [1]}) is None
    assert gold_answers({"text": ["x"], "answer_start": [-1]}) is None


def test_no_answer_in_any_row_is_refused(task_of: Make) -> None:
    with pytest.raises(DataError, match="no training row has an answer"):
        task_of(KIND, [row_of("q", "c")])


def test_a_long_question_is_cut_and_counted(task_of: Make, vocabulary_of: Vocabularies) -> None:
    rows = Rows([row_of("the fox " * 30, "the dog lost my card", ("dog", 4))], numbers=[5])
    features, truncation, _ = task_of(KIND, rows, max_tokens=23, stride_tokens=4).encode(rows, vocabulary_of("bert"))
    # 3 special tokens leave 20, and the question at most half of them: 60 - 10 are lost.
    assert (truncation.rows, truncation.tokens, truncation.places) == (1, 50, ("row 5",))
    assert features[0].length_tokens == 18


def test_unanswerable_questions_get_a_threshold_from_validation(task_of: Make, vocabulary_of: Vocabularies) -> None:
    rows = [
        row_of("q", "the quick fox", ("fox", 10)),
        row_of("q", "the lazy dog", ("dog", 9)),
        row_of("q", "the small moth"),
    ]
    task, vocabulary = task_of(KIND, rows), vocabulary_of("bert")
    assert task.to_dict()["unanswerable"] is True
    features = task.encode(rows, vocabulary, "score").features
    batch = task.collate(features, vocabulary)
    logits = torch.zeros(*batch.inputs["input_ids"].shape, 2)
    last = [index for index, span in enumerate(features[0].extras["offsets"]) if span][-1]
    logits[:, last] = 1.0  # every row's best span is its last word, with score 2
    logits[:, 0, 0] = torch.tensor([3.0, 4.0, 7.0])  # no answer beats it by 1, 2 and 5
    outputs = task.outputs(logits, batch)
    assert [answer["answer"] for answer in task.predictions(rows, features, outputs)] == ["", "", ""]
    calibrated = task.calibrated(rows, features, outputs)
    assert calibrated.to_dict()["threshold"] == pytest.approx(3.5)  # halfway between 2 and 5
    assert [answer["answer"] for answer in calibrated.predictions(rows, features, outputs)] == ["fox", "dog", ""]
    assert calibrated.score(rows, features, outputs, resamples=0)["f1"].value == 1.0
    assert type(task).from_dict(calibrated.to_dict()) == calibrated


def test_answerable_tasks_need_no_threshold(task_of: Make) -> None:
    task = task_of(KIND)
    assert task.calibrated([], [], []) is task


def test_the_threshold_prefers_zero_among_equals_and_never_splits_ties() -> None:
    assert best_threshold([], [], []) == 0.0
    assert abs(best_threshold([-1.0, 1.0], [1.0, 0.0], [0.0, 1.0])) == 0.0
    # Two rows at the same gap cannot be told apart: either both answer (1.0 + 0.0) or none does (0 + 1).
    assert best_threshold([2.0, 2.0], [1.0, 0.0], [0.0, 1.0]) in (1.0, 3.0)
