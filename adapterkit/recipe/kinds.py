"""The closed table of task kinds: one word per kind, and what the rooms that know no task must know of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Kind = Literal[
    "text-classification", "token-classification", "question-answering", "multiple-choice", "masked-lm", "causal-lm",
    "seq2seq-lm",
]  # fmt: skip


@dataclass(frozen=True)
class KindFacts:
    """What backbones, heads and files need of a kind. Everything else is asked of the task (`adapterkit.tasks`)."""

    auto_class: str
    """The class of transformers whose head the kind corresponds to."""
    mapping: str
    """The table of transformers of the classes behind it, by config."""
    peft_type: str | None
    """PEFT's task type, where it has one."""
    pipeline: str
    """The hub's name for what a model of the kind does."""
    trunk: Literal["any", "encoder", "decoder", "encoder-decoder"] = "any"
    """The one sort of backbone that the kind belongs to; "any" where every sort serves it."""
    pooled: bool = False
    """Whether the head reads one vector per sequence; else it reads every token."""
    borrows_head: bool = False
    """Whether the head belongs to the checkpoint: borrowed, frozen and never saved."""
    token_by_token: bool = False
    """Whether the head looks at each token of the input by itself."""
    adapterhub: tuple[str, ...] = ()
    """AdapterHub's words for a head of the kind, the one to write first; and how names of transformers' classes end
    that do not say it as `auto_class` does."""


FACTS: Mapping[str, KindFacts] = MappingProxyType({
    "text-classification": KindFacts(
        "AutoModelForSequenceClassification", "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING", "SEQ_CLS",
        "text-classification", pooled=True, adapterhub=("classification", "multilabel_classification"),
    ),
    "token-classification": KindFacts(
        "AutoModelForTokenClassification", "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING", "TOKEN_CLS",
        "token-classification", token_by_token=True, adapterhub=("tagging",),
    ),
    "question-answering": KindFacts(
        "AutoModelForQuestionAnswering", "MODEL_FOR_QUESTION_ANSWERING_MAPPING", "QUESTION_ANS",
        "question-answering", token_by_token=True, adapterhub=("question_answering",),
    ),
    "multiple-choice": KindFacts(
        "AutoModelForMultipleChoice", "MODEL_FOR_MULTIPLE_CHOICE_MAPPING", None,
        "multiple-choice", pooled=True, adapterhub=("multiple_choice",),
    ),
    "masked-lm": KindFacts(
        "AutoModelForMaskedLM", "MODEL_FOR_MASKED_LM_MAPPING", None,
        "fill-mask", trunk="encoder", borrows_head=True, token_by_token=True, adapterhub=("masked_lm",),
    ),
    "causal-lm": KindFacts(
        "AutoModelForCausalLM", "MODEL_FOR_CAUSAL_LM_MAPPING", "CAUSAL_LM", "text-generation",
        trunk="decoder", borrows_head=True, token_by_token=True, adapterhub=("causal_lm", "LMHeadModel"),
    ),
    "seq2seq-lm": KindFacts(
        "AutoModelForSeq2SeqLM", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING", "SEQ_2_SEQ_LM", "text2text-generation",
        trunk="encoder-decoder", borrows_head=True, adapterhub=("seq2seq_lm", "ForConditionalGeneration"),
    ),
})  # fmt: skip

KINDS: tuple[str, ...] = tuple(FACTS)

_SETTINGS: Mapping[tuple[Kind, ...], tuple[str, ...]] = {
    ("text-classification", "token-classification"): ("labels", "label_separator"),
    ("text-classification",): ("problem",),
    ("token-classification",): ("tags",),
    ("multiple-choice",): ("right_choice",),
    ("text-classification", "token-classification", "question-answering", "multiple-choice"): ("abstain",),
    ("question-answering",): ("stride_tokens", "max_answer_tokens", "unanswerable"),
    ("masked-lm",): ("mask_probability",),
    ("masked-lm", "causal-lm"): ("block_tokens",),
    ("causal-lm",): ("completions_only", "begin_token", "end_text", "pack_documents"),
    ("seq2seq-lm",): ("max_target_tokens", "prefix", "spelling"),
    ("causal-lm", "seq2seq-lm"): ("beams", "max_new_tokens", "stop"),
}
BELONGS: Mapping[str, tuple[Kind, ...]] = {name: kinds for kinds, names in _SETTINGS.items() for name in names}
"""Settings of the task block that belong to one kind or two; every other one belongs to all kinds."""
