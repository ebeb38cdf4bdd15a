"""The columns that each kind of task reads: what they are called, what they hold, what data sets often call them."""

from collections.abc import Mapping
from dataclasses import dataclass

from adapterkit.recipe.kinds import Kind


@dataclass(frozen=True)
class Column:
    """A column that a kind reads.

    Attributes:
        required: whether a row without it cannot be used. A required target is not needed to predict.
        meaning: one line for help texts and errors.
        aliases: names under which data sets often call it; tried in this order.
        target: whether it holds the answer.
        nested: whether its values may be lists or objects, so that texts that write these are read as such.
        separable: whether one text may hold several values, with `task.label_separator` between them.
        instead: columns of which one does where this one is not there.
    """

    required: bool
    meaning: str
    aliases: tuple[str, ...] = ()
    target: bool = False
    nested: bool = False
    separable: bool = False
    instead: tuple[str, ...] = ()


COLUMNS: Mapping[Kind, Mapping[str, Column]] = {
    "text-classification": {
        "text": Column(True, "the text", ("sentence", "sentence1", "premise", "content", "utterance", "review")),
        "text_pair": Column(False, "a second text, read together with the first", ("sentence2", "hypothesis")),
        "label": Column(
            True, "a label, a list of labels, or a number", ("labels", "target", "intent", "category", "class"),
            target=True, nested=True, separable=True,
        ),
    },
    "token-classification": {
        "text": Column(False, "a text to split at white space, where there are no tokens", ("sentence",)),
        "tokens": Column(False, "the words, as a list", ("words",), nested=True, separable=True),
        "tags": Column(
            True, "one tag per word, as a list", ("ner_tags", "labels", "upos", "pos_tags"), target=True, nested=True,
            separable=True,
        ),
    },
    "question-answering": {
        "question": Column(True, "the question", ("query",)),
        "context": Column(True, "the text that holds the answer", ("passage", "paragraph", "document")),
        "answers": Column(
            True, "{text: [...], answer_start: [...]}, character offsets; empty lists: no answer", ("answer",),
            target=True, nested=True,
        ),
    },
    "multiple-choice": {
        "question": Column(True, "the question, or the beginning that a choice continues", ("query", "startphrase")),
        "choices": Column(True, "the choices, as a list", ("options", "endings", "answers"), nested=True),
        "context": Column(False, "a text to read before the question", ("passage", "article")),
        "label": Column(
            True, "the right choice: its position from 0, its letter, or its text", ("answer", "answerKey"), True,
        ),
    },
    "masked-lm": {"text": Column(True, "the text", ("content", "document", "sentence"))},
    "causal-lm": {
        "text": Column(False, "a document, or to predict the beginning of one", ("content", "document")),
        "prompt": Column(False, "what a completion follows"),
        "instruction": Column(False, "what is to be done, in the Alpaca format"),
        "input": Column(False, "what an instruction is about", ("context",)),
        "completion": Column(False, "what follows the prompt or answers the instruction", ("response", "output"), True),
        "messages": Column(
            False, 'a chat: [{"role": ..., "content": ...}, ...]', ("conversations", "chat"), nested=True,
        ),
        "system": Column(False, "what holds for a whole chat or instruction"),
        "history": Column(False, "earlier instructions and answers: [[question, answer], ...]", nested=True),
        "tools": Column(False, "the tools that a chat offers, as JSON schemas", nested=True),
    },
    "seq2seq-lm": {
        "source": Column(
            True, "the text to read", ("input", "document", "article", "text", "question"), instead=("instruction",),
        ),
        "target": Column(True, "the text to write", ("output", "summary", "highlights", "answer", "label"), True),
        "instruction": Column(False, "what is to be done with the source, in the Alpaca format: it stands before it"),
        "system": Column(False, "what holds for the whole source: it stands first"),
        "history": Column(False, "earlier instructions and answers: [[question, answer], ...]", nested=True),
    },
}  # fmt: skip
"""Kind -> canonical name -> column."""


def input_text(row: str | Mapping[str, object], kind: str) -> str:
    """What a row says, without its answer, as one text; "" for a kind or a row that says nothing."""
    if isinstance(row, str):
        return row
    columns = next((columns for name, columns in COLUMNS.items() if name == kind), {})
    return "\n".join(" ".join(_words(row[n])) for n, column in columns.items() if n in row and not column.target)


def _words(value: object) -> list[str]:
    if isinstance(value, list | tuple):
        return [word for inner in value for word in _words(inner)]
    if isinstance(value, Mapping):
        return _words(list(value.values()))
    return [value] if isinstance(value, str) else []
