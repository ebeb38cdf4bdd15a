"""The things that pass between the steps of a task: columns, vocabularies, features, batches, losses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor

Row = Mapping[str, Any]
Purpose = Literal["train", "score", "predict"]
"""`train` and `score` need the target columns; `predict` does not. Language models also cut their text differently."""

IGNORED = -100
"""The label of a position that no loss and no metric counts, as in transformers."""

DEFAULT_MAX_TOKENS = 512
"""The length limit where neither the recipe nor the backbone has one (T5's relative positions, for example)."""


_READING = Lock()


@dataclass(frozen=True)
class Vocabulary:
    """What a task needs to know about the backbone that will read its features.

    Attributes:
        tokenizer: the backbone's transformers tokenizer.
        max_tokens: the most tokens that the backbone takes, special ones included; None where it has no limit.
        pad_id: the id that padding uses. It is always masked, so any id is right.
        decoder_start_id: the first decoder token of an encoder-decoder, else None.
    """

    tokenizer: Any
    max_tokens: int | None
    pad_id: int
    decoder_start_id: int | None = None

    @classmethod
    def of(cls, tokenizer: Any, max_tokens: int | None = None, decoder_start_id: int | None = None) -> Self:
        """The vocabulary of a tokenizer; a tokenizer without a pad token pads with its end token, or with id 0."""
        pads = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        return cls(tokenizer, max_tokens, next(pad for pad in pads if pad is not None), decoder_start_id)

    def read(self, text: Any, text_pair: Any = None, **settings: Any) -> Any:
        """What the tokenizer makes of texts, by settings of its call.

        Threads take turns: how a fast tokenizer cuts is a state of it, which every call sets before it reads.
        """
        with _READING:
            return self.tokenizer(text, text_pair, verbose=False, **settings)

    def bare(self, text: Any, *, offsets: bool = False) -> Any:
        """What the tokenizer makes of texts by themselves: uncut, without special tokens."""
        return self.read(text, add_special_tokens=False, truncation=False, return_offsets_mapping=offsets)


@dataclass(frozen=True, slots=True)
class Feature:
    """One sequence for the backbone. A row gives one or more (windows), and a language model may cut a row into many.

    Attributes:
        row: index into the rows that were encoded.
        index: position among all features of the same `encode`; seeds what is random for this feature.
        inputs: model inputs by name, each (T,); multiple choice: each (K, T).
        labels: the kind's own labels, or None where the row has none.
        length_tokens: the length that padding and buckets go by.
        extras: what the kind needs to find its way back from tokens to the row.
    """

    row: int
    index: int
    inputs: dict[str, list[Any]]
    labels: Any
    length_tokens: int
    extras: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Truncation:
    """What encoding had to cut away: rows that lost tokens, of those encoded; tokens lost over all rows; and the places
    of the first rows (at most 20), as in "line 7"."""

    rows: int = 0
    tokens: int = 0
    of_rows: int = 0
    places: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.rows:
            return f"nothing cut ({self.of_rows} rows)"
        return f"{self.rows} of {self.of_rows} rows cut, {self.tokens} tokens lost ({', '.join(self.places)})"


Features = Sequence[Feature]
Outputs = Sequence[Any]
"""What `Task.outputs` gives, one for every feature."""


class Encoded(NamedTuple):
    """The features of some rows, what was cut away to make them, and what else a user should know of them."""

    features: list[Feature]
    truncation: Truncation
    note: str = ""

    @property
    def notes(self) -> list[str]:
        """What to tell the user, if anything."""
        return [*[str(self.truncation)] * bool(self.truncation.rows), *[self.note] * bool(self.note)]


class Checked(NamedTuple):
    """The usable rows, with their numbers, and (number, reason) for every other one."""

    rows: Sequence[Row]
    problems: list[tuple[int, str]]


@dataclass(frozen=True)
class Batch:
    """Padded tensors for one forward: model inputs by name, (B, T) or (B, K, T), padded on the right; the kind's
    labels, or None where a feature has none; the features, in batch order; and what they were collated with."""

    inputs: dict[str, Tensor]
    labels: Any
    features: Sequence[Feature]
    vocabulary: Vocabulary

    def to(self, device: torch.device | str) -> Self:
        """The same batch with its tensors on `device`."""
        if torch.device(device).type == "cpu" and all(tensor.is_cpu for tensor in self.inputs.values()):
            return self  # its labels are where its inputs are
        labels = self.labels
        if isinstance(labels, Tensor):
            labels = labels.to(device)
        elif isinstance(labels, dict):
            labels = {name: tensor.to(device) for name, tensor in labels.items()}
        return replace(self, inputs={name: tensor.to(device) for name, tensor in self.inputs.items()}, labels=labels)


class Loss(NamedTuple):
    """A summed loss, with its graph, and what to divide it by, so that micro-batches and processes add up; both
    in fp32. The weight is 0 where every label is ignored (total is then 0 too, never NaN)."""

    total: Tensor
    weight: Tensor

    @property
    def mean(self) -> Tensor:
        """total / weight, the number that transformers calls the loss; 0 where nothing is weighed."""
        return self.total / torch.where(self.weight == 0, torch.ones_like(self.weight), self.weight)
