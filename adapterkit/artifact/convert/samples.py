"""The task of an adapter that came without its rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adapterkit.errors import ArtifactError, DataError
from adapterkit.manifest import validation_problems
from adapterkit.recipe import TaskSettings
from adapterkit.tasks.protocol import Task
from adapterkit.tasks.table import TASKS


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
    task_class = TASKS[kind]
    labelled = task_class.has_labels(_settings(given, src))
    if labelled and labels is None:
        counts = ", ".join(map(str, sizes))
        raise ArtifactError(
            f"{src} cannot be imported",
            [f"labels: found none in the folder, and {kind} has them"],
            f"Pass labels=[…] in the order of the logits (their number is one of {counts}), "
            'or task={"problem": "regression"}.',
        )
    if not labelled and labels is not None:
        raise ArtifactError(
            f"{src} cannot be imported", [f"labels: given, and this {kind} has none"], "Leave them out."
        )
    if labels is not None:
        given["labels"] = tuple(labels)
    full = _settings(given, src)
    problem = "" if full.problem == "auto" else full.problem
    try:
        return task_class.prepare(full, task_class.sample_rows(full.labels or (), problem))
    except DataError as error:
        raise ArtifactError(f"{src} cannot be imported", error.problems or [error.summary], error.remedy) from error


def _settings(given: Mapping[str, Any], src: Path) -> TaskSettings:
    try:
        return TaskSettings(**given)
    except ValidationError as error:
        raise ArtifactError(f"{src} cannot be imported", validation_problems(error, "task")) from error
