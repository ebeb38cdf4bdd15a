"""What every import has in common: what the caller says, the backbone and the task, and how it ends: tensors on an
adapter that was built on the backbone, checked, and saved."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from adapterkit.adapted import PREFIX, build
from adapterkit.artifact.contents import put_state, without_effect
from adapterkit.artifact.saving import SaveDtype, save
from adapterkit.backbone import Backbone
from adapterkit.errors import ArtifactError, DataError
from adapterkit.manifest import DataFacts, validation_problems
from adapterkit.methods.fusion.part import Part
from adapterkit.recipe import HeadSettings, MethodSettings, TaskSettings
from adapterkit.tasks.protocol import Task
from adapterkit.tasks.table import TASKS

logger = logging.getLogger(__name__)

SEED = 0
"""Of modules that are overwritten by the imported tensors at once."""


@dataclass(frozen=True)
class ImportOptions:
    """What the caller of an import says beside the folder; see `import_peft`."""

    kind: str | None
    labels: Sequence[str] | None
    task: Mapping[str, Any] | None
    rows: Sequence[Mapping[str, Any]]
    overwrite: bool
    dtype: SaveDtype | None


@contextmanager
def importing(src: Path) -> Iterator[None]:
    """Say of every refusal inside which folder it is about."""
    try:
        yield
    except ArtifactError as error:
        raise ArtifactError(f"{src} cannot be imported: {error.summary}", error.problems, error.remedy) from error


def backbone_of(given: Backbone | str | Path | None, named: object, revision: str | None = None) -> Backbone:
    """The backbone that the caller gives or says the place of, or else the one that a config names."""
    if isinstance(given, Backbone):
        return given
    if given is None and not named:
        raise ArtifactError("its config names no backbone", remedy="Pass backbone= a folder or a hub id.")
    return Backbone.load(str(named), revision=revision) if given is None else Backbone.load(str(given))


def make_task(kind: str, labels: Sequence[str] | None, settings: Mapping[str, Any], sizes: Sequence[int]) -> Task:
    """The task of an adapter that came without its rows. `labels`: in the order of the logits. `sizes`: first sizes of
    the head's tensors, for the message: one of them is the number of labels. Raises ArtifactError: labels are missing,
    given for a kind without any, or the settings are not valid."""
    task_class = TASKS[kind]
    given: dict[str, Any] = {"kind": kind, **settings}
    try:
        labelled = task_class.has_labels(TaskSettings(**given))
        if labelled and labels is None:
            counts = ", ".join(map(str, sizes))
            raise ArtifactError(
                "its labels are not known",
                [f"labels: found none in the folder, and {kind} has them"],
                f"Pass labels=[…] in the order of the logits (their number is one of {counts}), "
                'or task={"problem": "regression"}.',
            )
        if not labelled and labels is not None:
            raise ArtifactError("it has no labels", [f"labels: given, and this {kind} has none"], "Leave them out.")
        full = TaskSettings(**given) if labels is None else TaskSettings(**given, labels=tuple(labels))
        problem = "" if full.problem == "auto" else full.problem
        return task_class.prepare(full, task_class.sample_rows(full.labels or (), problem))
    except ValidationError as error:
        raise ArtifactError("its task makes no sense", validation_problems(error, "task")) from error
    except DataError as error:
        raise ArtifactError("its task makes no sense", error.problems or [error.summary], error.remedy) from error


def save_imported(
    out: str | Path,
    src: Path,
    origin: str,
    asked: ImportOptions,
    backbone: Backbone,
    task: Task,
    method: MethodSettings,
    head: HeadSettings,
    tensors: Mapping[str, Tensor],
    parts: Sequence[Part] = (),
) -> Path:
    """Build the adapter, give it the tensors, and write the artifact. `src`: what was read, for messages and the
    manifest. `origin`: whose format it had. `tensors`: by their names in an artifact. Raises ArtifactError: others than
    the adapter has, or it changes nothing; OutputError: `out` is in the way or cannot be written."""
    adapted = build(backbone, task, method, head, SEED, parts=parts)
    try:
        put_state(adapted, tensors)
        heads = {PREFIX + path for path in adapted.headed.trained}
        if (reason := without_effect(method, heads, tensors)) and not heads:
            raise ArtifactError("it has no effect", [f"it changes nothing: {reason}"], "Train it first.")
        if reason:
            logger.warning("the head of %s alone answers, since its method changes nothing: %s", src, reason)
        words = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()}
        kept: Any = words.pop() if words in ({"bfloat16"}, {"float16"}) else "float32"  # so that not one bit changes
        return save(
            out,
            adapted,
            recipe={},
            data=DataFacts(source=f"imported from {origin}: {src.name}"),
            metrics={},
            seed=SEED,
            golden=list(asked.rows) or task.sample_rows(task.labels, task.problem),
            overwrite=asked.overwrite,
            dtype=asked.dtype or kept,
        )
    finally:
        adapted.detach()
