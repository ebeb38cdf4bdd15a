"""The `task` block: what is learned, and the few settings that belong to one kind only."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from adapterkit.recipe.kinds import BELONGS, Kind
from adapterkit.recipe.settings import Many, Settings, foreign, refuse, twice

Piece = Annotated[str, Field(min_length=1, max_length=200)]
Unanswerable = Literal["auto", True, False]


UNWRITTEN: Mapping[str, Any] = {"begin_token": "always"}
"""Settings that artifacts of earlier versions do not hold -> what those were trained with."""


class Abstaining(Settings):
    """When an answer is withheld: where its confidence is too low for the risk."""

    risk: Annotated[float, Field(gt=0, lt=1)]
    """Share of wrong answers that is allowed among those that are given. Lower: fewer answers, more of them right."""
    certainty: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """How sure the promise is, over the validation rows that the threshold is chosen on. Higher: fewer answers."""


class TaskSettings(Settings):
    """What is learned: the kind, its labels, and the settings that belong to that kind only."""

    kind: Kind
    """Which of the seven kinds of task; it decides the columns, the head, the loss and the metrics."""
    labels: Many[Annotated[str, Field(min_length=1)]] | None = None
    """The label names in the order of the logits. null: learned from the training rows, sorted."""
    label_separator: Annotated[str, Field(min_length=1, max_length=8)] | None = None
    """What stands between the labels, or the tags, of one cell: "|". null: a cell holds one label, or a list."""
    problem: Literal["auto", "single-label", "multi-label", "regression"] = "auto"
    """How labels are read. auto: a list per row is multi-label, a number with a fraction is regression, all else is
    single-label."""
    tags: Literal["auto", "iob2", "flat"] = "auto"
    """How word tags are read. iob2: spans from B- and I- tags, scored as entities. flat: one tag per word. auto: iob2
    if every tag is O, B-… or I-…, or the same in another way of writing it (IOB1, IO, BIOES, BILOU, B_…, …-B)"""
    right_choice: Literal["auto", "from-0", "from-1", "letter", "text", "name"] = "auto"
    """How a label names the right choice: its position counted from 0 or from 1, its letter, its text, or its name
    beside the choices. auto: the one way in which all labels can be read."""
    abstain: Abstaining | None = None
    """Withhold answers so that those that are given are wrong at most so often: {risk: 0.05}. The threshold is chosen
    on validation rows. null: every answer is given."""
    metric: Annotated[str, Field(min_length=1)] | None = None
    """The validation metric that picks the best checkpoint. null: the kind's main metric."""
    max_tokens: Annotated[int, Field(ge=2)] | None = None
    """Longest input in tokens. Lower: faster, more text cut off. null: what the backbone takes."""
    stride_tokens: Annotated[int, Field(ge=0)] = 64
    """Overlap of the windows over a long context. Higher: fewer answers cut in two, more windows to compute."""
    max_answer_tokens: Annotated[int, Field(ge=1)] = 30
    """Longest answer. Higher: longer answers are found, more wrong spans are possible."""
    unanswerable: Unanswerable = "auto"
    """Whether a question may have no answer in its context. auto: true if a training row has none."""
    mask_probability: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of tokens that are predicted. Higher: more to learn from each row, less context to learn it from."""
    block_tokens: Annotated[int, Field(ge=2)] | None = None
    """Length of the blocks into which text is packed. Higher: longer context, fewer rows per step in the same memory.
    null: the longest that max_tokens and the backbone allow."""
    completions_only: bool = False
    """Whether the loss reads the completion only. true: the prompt is context, not a target."""
    begin_token: Literal["auto", "always"] = "auto"
    """Whether a begin token stands before texts and prompts. auto: where the tokenizer puts one, as transformers does.
    always: also where it only has one (GPT-2), so that the first token of a text is predicted too."""
    pack_documents: bool = False
    """Whether short documents share a block in training; none sees another. true: steps of more equal size, and fewer
    of them for the same batch_size. Nothing is computed for padding either way."""
    max_target_tokens: Annotated[int, Field(ge=1)] | None = None
    """Longest target in tokens. Lower: faster, more text cut off. null: as long as the source may be."""
    prefix: str = ""
    """Text put before every source, as T5 checkpoints expect: "summarize: "."""
    spelling: dict[Piece, Piece] = Field(default={}, max_length=256)
    """What stands for texts that the tokenizer cannot write, or writes at length: {"{": "(", "I_TURN_LEFT": "left"}.
    Sources and targets are written with it, answers are read back."""
    beams: Annotated[int, Field(ge=1)] = 1
    """Beams of generation. Higher: usually better text, as many times slower. 1: greedy."""
    max_new_tokens: Annotated[int, Field(ge=1)] = 128
    """Longest text that is generated. Lower: faster evaluation, more answers cut off."""
    stop: Many[Piece] = ()
    """Texts at which an answer ends; they are no part of it."""
    end_text: Piece | None = None
    """What completions and texts end with in training, and answers end at. null: the end token. Needed where a
    checkpoint cannot learn its end token, which training names then."""

    @model_validator(mode="after")
    def _belongs(self) -> Self:
        problems = foreign(self.model_fields_set, BELONGS, self.kind)
        if self.labels is not None and self.kind in BELONGS["labels"]:
            problems += twice("labels", self.labels)
            if not self.labels:
                problems.append(("labels", "is empty; name the labels, or write null to learn them from the rows"))
            if self.problem == "regression":
                problems.append(("labels", "has no meaning for a regression, whose targets are numbers; remove it"))
        problems += twice("spelling", list(self.spelling.values()))  # which could not be read back
        longest = self.max_tokens
        if self.kind == "question-answering" and longest is not None and self.stride_tokens >= longest:
            problems.append(("stride_tokens", f"is {self.stride_tokens}, expected less than max_tokens ({longest})"))
        if self.kind in BELONGS["block_tokens"] and longest is not None and (self.block_tokens or 0) > longest:
            problems.append(("block_tokens", f"is {self.block_tokens}, expected at most max_tokens ({longest})"))
        refuse(problems)
        return self

    @model_serializer(mode="wrap")
    def _without_foreign(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what belongs to other kinds, so that a written block reads back."""
        written: dict[str, Any] = handler(self)
        return {name: value for name, value in written.items() if self.kind in BELONGS.get(name, (self.kind,))}
