"""Vocabularies of the tiny backbones, and one usable set of rows per kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from adapterkit.recipe.task import TaskSettings
from adapterkit.tasks import TASKS, Task, Vocabulary

ROWS: dict[str, list[dict[str, Any]]] = {
    "text-classification": [
        {"text": "my card was lost", "label": "card"},
        {"text": "the quick brown fox jumps over the lazy dog", "label": "animal"},
        {"text": "the bank will send a new card", "label": "card"},
    ],
    "token-classification": [
        {"tokens": ["Ada", "lived", "in", "London"], "tags": ["B-person", "O", "O", "B-place"]},
        {"tokens": ["Grace", "found", "a", "moth"], "tags": ["B-person", "O", "O", "O"]},
    ],
    "question-answering": [
        {
            "question": "where did Ada live ?",
            "context": "Ada lived in London and wrote the first program",
            "answers": {"text": ["London"], "answer_start": [13]},
        },
        {
            "question": "what jumps ?",
            "context": "the quick brown fox jumps over the lazy dog",
            "answers": {"text": ["fox", "the quick brown fox"], "answer_start": [16, 0]},
        },
    ],
    "multiple-choice": [
        {"question": "a fox is", "choices": ["quick", "lazy", "a small boat"], "label": 0},
        {"question": "a dog is", "choices": ["quick", "lazy"], "label": 1},
    ],
    "masked-lm": [{"text": "the quick brown fox jumps over the lazy dog"}, {"text": "my card was lost"}],
    "causal-lm": [{"text": "the quick brown fox jumps over the lazy dog"}, {"text": "my card was lost"}],
    "seq2seq-lm": [
        {"source": "jump twice", "target": "jump jump"},
        {"source": "walk and run after turning left", "target": "turn left walk run"},
    ],
}
"""Kind -> rows that it can use."""

FAMILY = {
    "text-classification": "bert",
    "token-classification": "bert",
    "question-answering": "bert",
    "multiple-choice": "bert",
    "masked-lm": "bert",
    "causal-lm": "gpt2",
    "seq2seq-lm": "t5",
}
"""Kind -> a family that has it."""


@pytest.fixture(scope="session")
def vocabulary_of(tiny_backbones: Mapping[str, Any]) -> Callable[[str], Vocabulary]:
    """Family -> the vocabulary of its tiny backbone."""

    def make(family: str) -> Vocabulary:
        backbone = tiny_backbones[family]
        start = getattr(backbone.config, "decoder_start_token_id", None)
        return Vocabulary.of(backbone.tokenizer, backbone.max_tokens, start)

    return make


@pytest.fixture(scope="session")
def task_of() -> Callable[..., Task]:
    """`task_of(kind, rows=None, **settings)`: a prepared task."""

    def make(kind: str, rows: Any = None, **settings: Any) -> Task:
        chosen: Any = {"kind": kind, **settings}
        return TASKS[kind].prepare(TaskSettings(**chosen), ROWS[kind] if rows is None else rows)

    return make
