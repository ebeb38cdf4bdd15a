"""A task that no rows were read for, and a few rows of ours to answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adapterkit.errors import ArtifactError, DataError
from adapterkit.manifest import validation_problems
from adapterkit.recipe import TaskSettings
from adapterkit.tasks.protocol import Task
from adapterkit.tasks.table import TASKS

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "My card was lost on the way to London, can you send a new one?",
    "It was a bright cold day in April, and the clocks were striking thirteen.",
    "Ada Lovelace wrote the first program in 1843.",
)
LABELLED = ("text-classification", "token-classification")


def make_task(
    kind: str, labels: Sequence[str] | None, settings: Mapping[str, Any], src: Path, sizes: Sequence[int]
) -> Task:
    """The task of an imported adapter.

    Args:
        labels: names of the classes in the order of the logits.
        settings: more of a recipe's task settings.
        src: the folder, for the message.
        sizes: first sizes of the head's tensors, for the message: one of them is the number of labels.

    Raises:
        ArtifactError: labels are missing, given for a kind without any, or the settings are not valid.
    """
    given: dict[str, Any] = {"kind": kind, **settings}
    if kind == "text-classification":
        given.setdefault("problem", "single-label")
    labelled = kind in LABELLED and given.get("problem") != "regression"
    if labelled and labels is None:
        counts = ", ".join(map(str, sizes))
        raise ArtifactError(
            f"{src} cannot be imported",
            [f"labels: found none in a PEFT folder, and {kind} has them"],
            f"Pass labels=[…] in the order of the logits (their number is one of {counts}), "
            'or task={"problem": "regression"}.',
        )
    if not labelled and labels is not None:
        raise ArtifactError(
            f"{src} cannot be imported", [f"labels: given, and this {kind} has none"], "Leave them out."
        )
    if labels is not None:
        given["labels"] = tuple(labels)
    try:
        return TASKS[kind].prepare(TaskSettings(**given), sample_rows(kind, tuple(labels or ()), given.get("problem")))
    except ValidationError as error:
        raise ArtifactError(f"{src} cannot be imported", validation_problems(error, "task")) from error
    except DataError as error:
        raise ArtifactError(f"{src} cannot be imported", error.problems or [error.summary], error.remedy) from error


def sample_rows(kind: str, labels: Sequence[str] = (), problem: str | None = None) -> list[dict[str, Any]]:
    """A few rows of a kind, with every label in some row where there are labels."""
    if kind == "text-classification":
        if problem == "regression":
            return [{"text": text, "label": 0.5} for text in TEXTS]
        names = list(labels) or ["a", "b"]
        count = max(len(TEXTS), len(names))
        one = [names[number % len(names)] for number in range(count)]
        values: list[Any] = [[name] for name in one] if problem == "multi-label" else one
        return [{"text": TEXTS[number % len(TEXTS)], "label": values[number]} for number in range(count)]
    if kind == "token-classification":
        names = list(labels) or ["a", "b"]
        words = [TEXTS[0].split()[number % 9] for number in range(len(names))]
        return [
            {"tokens": words, "tags": names},
            *({"tokens": text.split(), "tags": names[:1] * len(text.split())} for text in TEXTS),
        ]
    if kind == "question-answering":
        answer = {"text": ["the lazy dog"], "answer_start": [TEXTS[0].index("the lazy dog")]}
        return [{"question": f"Over whom? {number}", "context": TEXTS[0], "answers": answer} for number in range(4)]
    if kind == "multiple-choice":
        return [{"question": text, "choices": ["yes", "no", "perhaps"], "label": 0} for text in TEXTS]
    if kind == "seq2seq-lm":
        return [{"source": text, "target": text} for text in TEXTS]
    return [{"text": text} for text in TEXTS]
