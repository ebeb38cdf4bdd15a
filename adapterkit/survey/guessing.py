"""Which kind of task rows are for, by the names of their columns and by what these hold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from adapterkit.data.columns import find_columns
from adapterkit.errors import DataError
from adapterkit.recipe import COLUMNS, KINDS, Kind
from adapterkit.survey.seen import Seen

Columns = Mapping[str, Seen]


@dataclass(frozen=True)
class Guess:
    """A kind and its columns."""

    kind: Kind
    columns: Mapping[str, str]
    """Canonical name -> the file's column, for those that are read."""
    why: str
    """What it was told by."""
    others: tuple[Kind, ...] = ()
    """Kinds that the rows would serve too."""

    @property
    def alone(self) -> bool:
        """Whether nothing but a text is read."""
        return set(self.columns) == {"text"}


def guess(columns: Columns, kind: str | None, asked: Mapping[str, str], model: str) -> Guess:
    """The kind that rows with these columns are for: the one that was asked for, or a guess.

    `asked`: canonical name -> column, as the user said; `model`: the kind that a text by itself is for. Raises
    DataError: no kind fits, or not the one that was asked for.
    """
    found: dict[Kind, tuple[dict[str, str], str]] = {}
    alone = dict(sorted(_ALONE.items(), key=lambda one: one[0] != model))
    for table in (_TOGETHER, alone):
        if found:  # of several columns one could always be read alone; that says nothing
            break
        for name, fits in table.items():
            if kind not in (None, name):
                continue
            known = {own: column for own, column in asked.items() if own in COLUMNS[name] and column in columns}
            match = fits(columns, find_columns(list(columns), known, COLUMNS[name]))
            # What a text would be written for may come again and again, and be called something that labels are too.
            target = None if match is None else match[0].get("target")
            is_label = target not in (None, "target", asked.get("target")) and columns[str(target)].repeats
            if match is not None and (kind == name or not is_label):
                found[name] = match
    if not found:
        held = ", ".join(f"{seen.name!r} ({seen.holds})" for seen in columns.values())
        what = "any kind of task" if kind is None else kind
        needs = {} if kind is None else COLUMNS[kind]  # type: ignore[index]
        told = ", ".join(f"{name} ({need.meaning})" for name, need in needs.items() if need.required)
        needed = [f"{kind} needs {told}"] if needs else []
        raise DataError(
            f"The rows do not look like those of {what}",
            [f"columns found: {held}", *needed],
            "Say what they are: --kind KIND and, for each column, --column NAME=COLUMN. Kinds: " + ", ".join(KINDS),
        )
    best = next(iter(found))
    matched, why = found[best]
    return Guess(best, matched, why, tuple(name for name in found if name != best))


Match = tuple[dict[str, str], str] | None


def _holds(columns: Columns, named: Mapping[str, str], wanted: Mapping[str, tuple[str, ...]]) -> bool:
    return all(name in named and columns[named[name]].holds in types for name, types in wanted.items())


def _question_answering(columns: Columns, named: dict[str, str]) -> Match:
    answers = {"question": ("text",), "context": ("text",), "answers": ("object", "list of objects")}
    if _holds(columns, named, answers) and "text" in columns[named["answers"]].keys:
        return named, "a question, a context and answers with their places"
    return None


def _multiple_choice(columns: Columns, named: dict[str, str]) -> Match:
    if _holds(columns, named, {"question": ("text",), "choices": ("list of texts", "object", "list of objects")}):
        return (named, "a question, a list of choices and a label") if "label" in named else None
    return None


def _token_classification(columns: Columns, named: dict[str, str]) -> Match:
    words = _holds(columns, named, {"tokens": ("list of texts",)}) or _holds(columns, named, {"text": ("text",)})
    tags = _holds(columns, named, {"tags": ("list of texts", "list of numbers")})
    # Lists of labels beside a text are topics; of tags there are as many as words.
    if words and tags and ("tokens" in named or named["tags"] == "tags"):
        return named, "a list of words and a list of tags"
    return None


def _causal_lm(columns: Columns, named: dict[str, str]) -> Match:
    if _holds(columns, named, {"messages": ("list of objects",)}) and columns[named["messages"]].keys & {
        "role",
        "from",
    }:
        return {"messages": named["messages"]}, "a list of turns"
    if _holds(columns, named, {"prompt": ("text",), "completion": ("text",)}):
        return {name: column for name, column in named.items() if name != "text"}, "a prompt and a completion"
    return None


def _seq2seq_lm(columns: Columns, named: dict[str, str]) -> Match:
    fits = _holds(columns, named, {"source": ("text",), "target": ("text",)})
    return (named, "a text to read and a text to write") if fits else None


def _text_classification(columns: Columns, named: dict[str, str]) -> Match:
    free = [seen for seen in columns.values() if seen.name not in named.values()]
    labels = ("text", "number", "true or false", "list of texts", "list of numbers", "list")
    if "label" not in named:
        likely = [seen for seen in free if seen.holds in labels and (seen.repeats or seen.holds.startswith("list"))]
        if not likely:
            return None
        named = {**named, "label": min(likely, key=lambda seen: (seen.words, seen.distinct)).name}
    if "text" not in named:
        texts = [seen for seen in free if seen.is_text and seen.name != named["label"] and seen.distinct > 1]
        if not texts:
            return None
        named = {**named, "text": max(texts, key=lambda seen: seen.words).name}
    fits = _holds(columns, named, {"text": ("text",), "label": labels})
    return (named, "a text and a label") if fits else None


def _text_alone(columns: Columns, named: dict[str, str]) -> Match:
    if "text" not in named:
        texts = [seen for seen in columns.values() if seen.is_text]
        if not texts:
            return None
        named = {"text": max(texts, key=lambda seen: seen.words).name}
    return ({"text": named["text"]}, "a text by itself") if columns[named["text"]].is_text else None


_TOGETHER: dict[Kind, Callable[[Columns, dict[str, str]], Match]] = {
    "question-answering": _question_answering,
    "multiple-choice": _multiple_choice,
    "token-classification": _token_classification,
    "causal-lm": _causal_lm,
    "seq2seq-lm": _seq2seq_lm,
    "text-classification": _text_classification,
}
"""Kinds of several columns, from what says most to what says least."""

_ALONE: dict[Kind, Callable[[Columns, dict[str, str]], Match]] = {"causal-lm": _text_alone, "masked-lm": _text_alone}
"""Kinds that a text by itself serves."""


def problem_of(values: list[Any]) -> str:
    """How labels of texts are to be read: "single-label", "multi-label" or "regression"."""
    there = [value for value in values if value is not None]
    if any(isinstance(value, list) for value in there):
        return "multi-label"
    numbers = [_number(value) for value in there]
    fractions = [number for number in numbers if number is not None and not number.is_integer()]
    return "regression" if fractions and None not in numbers else "single-label"


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
