"""An adapter on its backbone: what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from adapterkit.errors import DataError
from adapterkit.recipe import KINDS, HeadSettings, LoraMethod
from tests import tiny
from tests.laws.worlds import (
    adapter,
    batch_of,
    disturb,
    features_of,
    make_talkative,
    prepared,
)
from tests.tasks.conftest import FAMILY as A_FAMILY_OF
from tests.tasks.conftest import ROWS

Backbones = Mapping[str, Any]
LORA = LoraMethod(rank=2)
TEXTS = [row["text"] for row in ROWS["text-classification"]]


PLAIN = {
    "text-classification": "my card was lost",
    "token-classification": "Ada lived in London",
    "masked-lm": "the quick [MASK] fox",
    "causal-lm": "Ada lived in",
    "seq2seq-lm": "jump twice",
}
"""Kinds that one text is enough for."""

KEYS = {
    "text-classification": {"label", "score", "probabilities"},
    "token-classification": {"tags"},
    "question-answering": {"answer", "start", "stop", "score", "probability"},
    "multiple-choice": {"choice", "text", "score", "probabilities"},
    "masked-lm": {"text", "masks"},
    "causal-lm": {"text"},
    "seq2seq-lm": {"text"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_answered_in_their_order_with_or_without_targets(tiny_backbones: Backbones, kind: str) -> None:
    with adapter(tiny_backbones[A_FAMILY_OF[kind]], kind, LORA, HeadSettings()) as adapted:
        disturb(adapted)
        targets = {name for name, column in adapted.task.columns.items() if column.target}
        rows = ROWS[kind]
        bare = [{name: value for name, value in row.items() if name not in targets} for row in rows]
        answers = adapted.predict(bare)
        assert len(answers) == len(rows)
        assert all(KEYS[kind] <= answer.keys() for answer in answers)
        assert adapted.predict(rows) == answers
        assert adapted.predict(bare[::-1]) == answers[::-1]


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_text_is_a_row_with_its_first_column(tiny_backbones: Backbones, kind: str) -> None:
    with adapter(tiny_backbones[A_FAMILY_OF[kind]], kind, LORA, HeadSettings()) as adapted:
        column = next(iter(adapted.task.columns))
        row = {column: PLAIN[kind]}
        assert adapted.predict([PLAIN[kind]]) == adapted.predict([row])
        assert adapted.predict([PLAIN[kind], row]) == adapted.predict([row, row])


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_have_no_answers(tiny_backbones: Backbones, kind: str) -> None:
    with adapter(tiny_backbones[A_FAMILY_OF[kind]], kind, head=HeadSettings()) as adapted:
        assert adapted.predict([]) == []
        assert adapted.outputs([]) == []


@pytest.mark.parametrize("row", ["my card was lost", {"text": "my card was lost"}])
def test_one_row_instead_of_a_list_is_refused_and_not_taken_apart(tiny_backbones: Backbones, row: Any) -> None:
    with adapter(tiny_backbones["bert"], "text-classification") as adapted, pytest.raises(TypeError, match="list of"):
        adapted.predict(row)


def test_rows_that_cannot_be_answered_are_named_by_number_all_at_once(tiny_backbones: Backbones) -> None:
    with adapter(tiny_backbones["bert"], "text-classification") as adapted:
        rows: list[Any] = ["my card was lost", {"text": 3}, {}, {"text": "fine"}, {"text": None}]
        with pytest.raises(DataError) as caught:
            adapted.predict(rows)
        assert caught.value.summary == "3 of 5 rows cannot be answered"
        assert [problem.partition(":")[0] for problem in caught.value.problems] == ["row 2", "row 3", "row 5"]
        assert caught.value.remedy == "A row of text-classification has: text, text_pair."


def test_one_bad_row_alone_is_named_too(tiny_backbones: Backbones) -> None:
    with adapter(tiny_backbones["bert"], "multiple-choice") as adapted, pytest.raises(DataError) as caught:
        adapted.predict([{"question": "which?"}])
    assert "row 1" in str(caught.value) or "line 1" in str(caught.value)
    assert "no choices" in str(caught.value)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_answers_do_not_depend_on_the_batch_size(tiny_backbones: Backbones, batch_size: int) -> None:
    with adapter(tiny_backbones["bert"], "text-classification", LORA) as adapted:
        disturb(adapted)
        found = [answer["label"] for answer in adapted.predict(TEXTS * 3, batch_size=batch_size)]
        assert found == [adapted.predict([text])[0]["label"] for text in TEXTS] * 3


@pytest.mark.parametrize("family", [*tiny.DECODERS, *tiny.ENCODER_DECODERS])
@pytest.mark.parametrize("beams", [1, 2])
def test_generated_text_is_what_transformers_generates(tiny_backbones: Backbones, family: str, beams: int) -> None:
    """Greedy, or with beams, never sampled; one prompt at a time with transformers, all in one batch with ours."""
    kind = "seq2seq-lm" if family in tiny.ENCODER_DECODERS else "causal-lm"
    prompts = ["jump twice", "the quick brown fox jumps over the lazy dog", "Ada"]
    task = prepared(kind, beams=beams, max_new_tokens=6)
    backbone = tiny_backbones[family]
    with adapter(backbone, kind, LORA, task=task) as adapted:
        disturb(adapted, 0.2)
        make_talkative(adapted)
        generator: Any = adapted.module
        features = features_of(adapted, [{next(iter(task.columns)): prompt} for prompt in prompts], "predict")
        expected = []
        for feature in features:
            inputs = {name: torch.tensor([values]) for name, values in feature.inputs.items()}
            ids = generator.generate(**inputs, max_new_tokens=6, num_beams=beams, do_sample=False)[0]
            start = 0 if backbone.is_encoder_decoder else len(feature.inputs["input_ids"])
            expected.append(backbone.tokenizer.decode(ids[start:], skip_special_tokens=True).strip())
        assert all(expected)
        assert adapted.generate(features) == expected
        assert [answer["text"] for answer in adapted.predict(prompts)] == expected


def test_a_kind_that_does_not_generate_says_so(tiny_backbones: Backbones) -> None:
    with (
        adapter(tiny_backbones["bert"], "text-classification") as adapted,
        pytest.raises(TypeError, match="text-classification does not generate text"),
    ):
        adapted.generate([])


@pytest.mark.parametrize("training", [True, False])
def test_answering_leaves_the_mode_as_it_was_even_after_an_error(
    tiny_backbones: Backbones, monkeypatch: pytest.MonkeyPatch, training: bool
) -> None:
    with adapter(tiny_backbones["bert"], "text-classification", LoraMethod(rank=2, dropout=0.5)) as adapted:
        adapted.train(training)
        modes = [(name, module.training) for name, module in adapted.named_modules()]
        answers = [adapted.predict(TEXTS) for _ in range(2)]
        assert answers[0] == answers[1]  # no dropout
        monkeypatch.setattr(type(adapted.task), "outputs", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            adapted.predict(TEXTS)
        assert [(name, module.training) for name, module in adapted.named_modules()] == modes
        assert all(not logits.is_inference() for logits in [adapted(batch_of(adapted).inputs)])
