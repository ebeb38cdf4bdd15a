"""The table that the laws run over: kinds × families × methods × heads.

The full product has over two thousand cells. The table holds for each family every method, its kinds in turn, and what
is then missing so that every kind meets every method: so every pair of (kind, family), (family, method) and (kind,
method) is there.
"""

from __future__ import annotations

from dataclasses import dataclass

from adapterkit.recipe import HeadSettings
from tests import tiny
from tests.methods import cases as methods


@dataclass(frozen=True)
class Kind:
    """A kind of task.

    Attributes:
        families: those that can serve it.
        heads: heads in turn, by name in `HEADS`.
        own_only: families for which transformers has no class of this kind.
        flat: ends of head parameters that move all logits alike, so that a softmax gives them no gradient.
        continued: starts of head parameters whose training goes on from where the checkpoint's own head left them:
            ModernBERT's classes share one prediction head.
    """

    families: tuple[str, ...]
    heads: tuple[str, ...] = ("family",)
    own_only: frozenset[str] = frozenset()
    flat: tuple[str, ...] = ()
    continued: tuple[str, ...] = ("head.dense.", "head.norm.")


HEADS = {
    "family": HeadSettings(kind="family"),
    "linear-mean": HeadSettings(kind="linear", pooling="mean", dropout=0.1),
    "linear-last": HeadSettings(kind="linear", pooling="last", normalize=True),
    "linear": HeadSettings(kind="linear"),
    "mlp-first": HeadSettings(kind="mlp", pooling="first", hidden=6),
    "mlp": HeadSettings(kind="mlp", hidden=6, dropout=0.1),
    "attention": HeadSettings(kind="attention"),
}

_POOLED = ("family", "linear-mean", "mlp-first", "family", "attention", "linear-last")
_TOKENS = ("family", "linear", "family", "mlp")
KINDS = {
    "text-classification": Kind(tiny.FAMILIES, _POOLED),
    "token-classification": Kind(tiny.FAMILIES, _TOKENS, own_only=frozenset({"bart"})),
    "question-answering": Kind(tiny.FAMILIES, _TOKENS, flat=("classifier.bias", "qa_outputs.bias", "score.bias")),
    "multiple-choice": Kind(
        tiny.FAMILIES,
        _POOLED,
        own_only=frozenset({"gpt2", "llama", "qwen2", "t5", "bart"}),
        flat=("classifier.bias",),
    ),
    "masked-lm": Kind(tiny.ENCODERS, continued=()),
    "causal-lm": Kind(tiny.DECODERS, continued=()),
    "seq2seq-lm": Kind(tiny.ENCODER_DECODERS, continued=()),
}

METHODS = methods.CASES
"""A new method adds a row to the table of methods, and inherits these laws too."""


@dataclass(frozen=True)
class Case:
    """One cell: an adapter of a kind with a method and a head on a family.

    Attributes:
        untrained: how far logits may move when the untrained adapter is put on.
        merged: how far logits may move when it is merged, relative to the largest.
    """

    kind: str
    family: str
    method: str
    head: str

    def __str__(self) -> str:
        return f"{self.family}-{self.kind}-{self.method}-{self.head}"

    @property
    def row(self) -> methods.Case:
        return (METHODS | methods.CROSSING)[self.method]

    @property
    def untrained(self) -> float:
        # What a hidden state may move, through a head's sum over 32 features of it.
        return 32 * self.row.untrained

    @property
    def merged(self) -> float:
        # fp32 holds 7 digits, and sums through up to four layers in another order lose two of them.
        return 1e-4

    @property
    def flat(self) -> tuple[str, ...]:
        return KINDS[self.kind].flat

    @property
    def continued(self) -> tuple[str, ...]:
        return KINDS[self.kind].continued


def head_for(kind: str, family: str, turn: int) -> str:
    """The head whose turn it is, and the next own one where the family has no class of this kind."""
    row = KINDS[kind]
    heads = [head for head in row.heads if head != "family" or family not in row.own_only]
    return heads[turn % len(heads)]


def table() -> list[Case]:
    """See the module's docstring. The order is always the same."""
    cases = []
    for start, family in enumerate(tiny.FAMILIES):
        kinds = [kind for kind, row in KINDS.items() if family in row.families]
        for turn, method in enumerate(METHODS):
            kind = kinds[(start + turn) % len(kinds)]
            cases.append(Case(kind, family, method, head_for(kind, family, start + turn)))
    for kind, row in KINDS.items():
        there = {case.method for case in cases if case.kind == kind}
        for turn, method in enumerate(method for method in METHODS if method not in there):
            family = row.families[turn % len(row.families)]
            cases.append(Case(kind, family, method, head_for(kind, family, turn)))
    return [*cases, *CROSSING, *OTHERS]


CROSSING = [
    Case("seq2seq-lm", "t5", "houlsby-cross", "family"),
    Case("seq2seq-lm", "t5", "parallel-cross", "family"),
    Case("seq2seq-lm", "bart", "pfeiffer-cross", "family"),
    Case("text-classification", "bart", "parallel-cross", "family"),
    Case("text-classification", "t5", "pfeiffer-cross", "family"),
]
OTHERS = [
    Case("token-classification", "mpnet", "pfeiffer", "family"),
    Case("text-classification", "deberta", "lora-all-linear", "linear-mean"),
    Case("question-answering", "deberta", "houlsby", "family"),
    Case("text-classification", "deberta-v2", "lora-all-linear", "family"),
    Case("masked-lm", "deberta-v2", "parallel", "family"),
    Case("multiple-choice", "electra", "pfeiffer", "family"),
    Case("text-classification", "bloom", "houlsby", "family"),
    Case("token-classification", "falcon", "lora-all-linear", "family"),
    Case("token-classification", "falcon", "houlsby", "family"),
    Case("causal-lm", "gpt-j", "lora-all-linear", "family"),
    Case("causal-lm", "gpt-j", "parallel", "family"),
    Case("question-answering", "gpt-neox", "lora-dora", "family"),
    Case("question-answering", "gpt-neox", "pfeiffer", "family"),
    Case("text-classification", "gemma-2", "ia3", "linear-last"),
    Case("token-classification", "gemma-2", "houlsby", "linear"),
    Case("causal-lm", "gemma-2", "pfeiffer", "family"),
    Case("causal-lm", "gemma-2", "parallel", "family"),
    Case("text-classification", "qwen3.5", "lora-all-linear", "family"),
    Case("token-classification", "qwen3.5", "houlsby", "linear"),
    Case("question-answering", "qwen3.5", "ia3", "linear"),
    Case("causal-lm", "qwen3.5", "lora", "family"),
    Case("causal-lm", "qwen3.5", "parallel", "family"),
    Case("text-classification", "gemma-4", "lora-all-linear", "linear-last"),
    Case("token-classification", "gemma-4", "houlsby", "linear"),
    Case("causal-lm", "gemma-4", "lora", "family"),
    Case("causal-lm", "gemma-4", "pfeiffer", "family"),
    Case("text-classification", "mixtral", "lora-all-linear", "family"),
    Case("token-classification", "qwen2-experts", "lora-all-linear", "family"),
    Case("text-classification", "deepseek", "ia3", "linear-last"),
    Case("causal-lm", "deepseek", "lora", "family"),
    Case("token-classification", "lfm2", "lora-all-linear", "linear"),
    Case("text-classification", "lfm2", "houlsby", "linear-last"),
    Case("causal-lm", "lfm2", "lora", "family"),
    Case("causal-lm", "lfm2", "parallel", "family"),
    Case("token-classification", "albert", "none", "family"),
]
"""A case or two for each family beyond the nine."""


CASES = table()
