"""The closed table of task kinds: one word per kind, the same everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Kind = Literal[
    "text-classification",
    "token-classification",
    "question-answering",
    "multiple-choice",
    "masked-lm",
    "causal-lm",
    "seq2seq-lm",
]

KINDS: tuple[Kind, ...] = (
    "text-classification",
    "token-classification",
    "question-answering",
    "multiple-choice",
    "masked-lm",
    "causal-lm",
    "seq2seq-lm",
)

AUTO_CLASSES: Mapping[str, str] = {
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "multiple-choice": "AutoModelForMultipleChoice",
    "masked-lm": "AutoModelForMaskedLM",
    "causal-lm": "AutoModelForCausalLM",
    "seq2seq-lm": "AutoModelForSeq2SeqLM",
}
"""The class of transformers whose head a kind corresponds to."""

LANGUAGE_MODEL_KINDS: tuple[Kind, ...] = ("masked-lm", "causal-lm", "seq2seq-lm")
"""Kinds whose head belongs to the checkpoint: it is borrowed, frozen and never saved."""

POOLED_KINDS: tuple[Kind, ...] = ("text-classification", "multiple-choice")
"""Kinds whose head reads one vector per sequence; the others read every token."""
