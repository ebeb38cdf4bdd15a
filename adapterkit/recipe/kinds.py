"""The closed table of task kinds: one word per kind, and what the rooms that know no task must know of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

Kind = Literal[
    "text-classification",
    "token-classification",
    "question-answering",
    "multiple-choice",
    "masked-lm",
    "causal-lm",
    "seq2seq-lm",
]


@dataclass(frozen=True)
class KindFacts:
    """What backbones, heads and files need of a kind. Everything else is asked of the task (`adapterkit.tasks`).

    Attributes:
        auto_class: transformers' class whose head the kind corresponds to.
        mapping: transformers' table of the classes behind it, by config.
        peft_type: PEFT's task type, where it has one.
        pipeline: the hub's name for what a model of the kind does.
        trunk: the one sort of backbone that the kind belongs to; "any" where every sort serves it.
        pooled: whether the head reads one vector per sequence; else it reads every token.
        borrows_head: whether the head belongs to the checkpoint: borrowed, frozen and never saved.
        token_by_token: whether the head looks at each token of the input by itself.
    """

    auto_class: str
    mapping: str
    peft_type: str | None
    pipeline: str
    trunk: Literal["any", "encoder", "decoder", "encoder-decoder"] = "any"
    pooled: bool = False
    borrows_head: bool = False
    token_by_token: bool = False


def _facts(name: str, table: str, *more: Any, **flags: Any) -> KindFacts:
    return KindFacts(f"AutoModelFor{name}", f"MODEL_FOR_{table}_MAPPING", *more, **flags)


FACTS: Mapping[str, KindFacts] = MappingProxyType(
    {
        "text-classification": _facts(
            "SequenceClassification", "SEQUENCE_CLASSIFICATION", "SEQ_CLS", "text-classification", pooled=True
        ),
        "token-classification": _facts(
            "TokenClassification", "TOKEN_CLASSIFICATION", "TOKEN_CLS", "token-classification", token_by_token=True
        ),
        "question-answering": _facts(
            "QuestionAnswering", "QUESTION_ANSWERING", "QUESTION_ANS", "question-answering", token_by_token=True
        ),
        "multiple-choice": _facts("MultipleChoice", "MULTIPLE_CHOICE", None, "multiple-choice", pooled=True),
        "masked-lm": _facts(
            "MaskedLM", "MASKED_LM", None, "fill-mask", "encoder", borrows_head=True, token_by_token=True
        ),
        "causal-lm": _facts(
            "CausalLM", "CAUSAL_LM", "CAUSAL_LM", "text-generation", "decoder", borrows_head=True, token_by_token=True
        ),
        "seq2seq-lm": _facts(
            "Seq2SeqLM",
            "SEQ_TO_SEQ_CAUSAL_LM",
            "SEQ_2_SEQ_LM",
            "text2text-generation",
            "encoder-decoder",
            borrows_head=True,
        ),
    }
)

KINDS: tuple[str, ...] = tuple(FACTS)

BELONGS: Mapping[str, tuple[Kind, ...]] = {
    "labels": ("text-classification", "token-classification"),
    "label_separator": ("text-classification", "token-classification"),
    "problem": ("text-classification",),
    "tags": ("token-classification",),
    "right_choice": ("multiple-choice",),
    "abstain": ("text-classification", "token-classification", "question-answering", "multiple-choice"),
    "stride_tokens": ("question-answering",),
    "max_answer_tokens": ("question-answering",),
    "unanswerable": ("question-answering",),
    "mask_probability": ("masked-lm",),
    "block_tokens": ("masked-lm", "causal-lm"),
    "completions_only": ("causal-lm",),
    "begin_token": ("causal-lm",),
    "end_text": ("causal-lm",),
    "pack_documents": ("causal-lm",),
    "max_target_tokens": ("seq2seq-lm",),
    "prefix": ("seq2seq-lm",),
    "spelling": ("seq2seq-lm",),
    "beams": ("causal-lm", "seq2seq-lm"),
    "max_new_tokens": ("causal-lm", "seq2seq-lm"),
    "stop": ("causal-lm", "seq2seq-lm"),
}
"""Settings of the task block that belong to one kind or two; every other one belongs to all kinds."""
