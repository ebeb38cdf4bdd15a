"""A task that no rows were read for, and a few rows of ours to answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapterkit.errors import ArtifactError
from adapterkit.recipe import TaskSettings
from adapterkit.tasks.protocol import Task
from adapterkit.tasks.table import TASKS

_TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "My card was lost on the way to London, can you send a new one?",
    "It was a bright cold day in April, and the clocks were striking thirteen.",
    "Ada Lovelace wrote the first program in 1843.",
)
_LABELLED = ("text-classification", "token-classification")


def make_task(kind: str, labels: Sequence[str] | None, problem: str | None, src: Path, sizes: Sequence[int]) -> Task:
    """The task of an imported adapter.

    Args:
        sizes: first sizes of the head's tensors, for the message: one of them is the number of labels.

    Raises:
        ArtifactError: labels are missing, or given for a kind without any.
    """
    if problem is not None and (kind != "text-classification" or problem not in PROBLEMS):
        raise ArtifactError(
            f"{src} cannot be imported",
            [f"problem: found {problem!r:.40} for {kind}, expected one of {', '.join(PROBLEMS)}"],
            "It can be given for text-classification only.",
        )
    labelled = kind in _LABELLED
    if labelled != (labels is not None):
        problems = [f"labels: found none, and {kind} has them", f"labels: given, and {kind} has none"]
        counts = ", ".join(map(str, sizes))
        raise ArtifactError(
            f"{src} cannot be imported",
            [problems[0] if labelled else problems[1]],
            f"Pass labels=[…] in the order of the logits; their number is one of {counts}." if labelled else "",
        )
    given: dict[str, Any] = {"kind": kind}
    if labels is not None:
        given["labels"] = tuple(labels)
    if kind == "text-classification":
        given["problem"] = problem or "single-label"
    return TASKS[kind].prepare(TaskSettings(**given), sample_rows(kind, tuple(labels or ()), problem))


PROBLEMS = ("single-label", "multi-label", "regression")


def sample_rows(kind: str, labels: Sequence[str] = (), problem: str | None = None) -> list[dict[str, Any]]:
    """A few rows of a kind, with targets that cycle through the labels where there are any."""
    return []
