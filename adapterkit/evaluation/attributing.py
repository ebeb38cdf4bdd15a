"""Which part of an adapter made the gain: its head, or the representation under it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from adapterkit.artifact import Artifact, open_artifact
from adapterkit.artifact.loading import find_backbone
from adapterkit.artifact.saving import package_versions
from adapterkit.backbone import Backbone
from adapterkit.errors import DataError
from adapterkit.evaluation.evaluating import SEED
from adapterkit.evaluation.outcome import Outcome, answer_rows, rows_to_answer
from adapterkit.metrics.paired import difference
from adapterkit.recipe.kinds import FACTS
from adapterkit.records import AttributionRecord
from adapterkit.records.evaluation import GainRecord
from adapterkit.tasks.confident import ConfidentTask
from adapterkit.tasks.protocol import Vocabulary
from adapterkit.training import train

CONSTANT, HEAD, REPRESENTATION = "constant answer", "head", "representation"


def attribute(
    artifact: str | Path,
    data: Any = None,
    *,
    backbone: Backbone | str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    data_root: str | Path | None = None,
    batch_size: int = 64,
    resamples: int = 1000,
    output: str | Path | None = None,
    quiet: bool = True,
) -> AttributionRecord:
    """Say what the head gains over the commonest answer, and the adapter over the head alone, on the same test rows.

    The head alone is trained by the artifact's own recipe without its method: on the frozen backbone, whose states
    below the head are computed once and kept (`training.cache`).

    Args:
        artifact: its folder. The training rows that its recipe names are read again.
        data: test rows, as `evaluate` takes them, and its other arguments.
        output: where the artifact of the head alone is kept; None keeps none.
        quiet: show no progress of its training.

    Raises:
        DataError: the kind has no head of its own, or the artifact keeps no recipe.
        AdapterkitError: as of `train` and `evaluate`.
    """
    opened = open_artifact(artifact)
    _check(opened)
    rows, used = rows_to_answer(opened, data, columns=columns, root=data_root)
    loaded = find_backbone(opened, backbone)
    whole = answer_rows(opened, rows, loaded, batch_size=batch_size)
    alone = whole
    if opened.manifest.method.attaches:
        with tempfile.TemporaryDirectory() as folder:
            trained = train(
                _head_alone(opened, output or Path(folder) / "head", data_root), backbone=loaded, quiet=quiet
            )
            alone = answer_rows(open_artifact(trained.artifact), rows, loaded, batch_size=batch_size)
    outcomes = {HEAD: alone} if alone is whole else {HEAD: alone, REPRESENTATION: whole}
    constant = _constant(opened, whole, Vocabulary.of(loaded.tokenizer, loaded.max_tokens))
    before = alone if constant is None else constant
    metric = whole.task.main_metric
    gains = []
    for name, outcome in outcomes.items():
        pair = [one.metrics(resamples=resamples, seed=SEED)[metric] for one in (before, outcome)]
        if outcome is not before:
            gains.append(GainRecord(name=name, difference=difference(*pair)))
        before = outcome
    return AttributionRecord(
        made_with=package_versions(),
        seed=SEED,
        answering=whole.answering,
        head_alone=alone.answering,
        data=used,
        resamples=resamples,
        metric=metric,
        starts_from=HEAD if constant is None else CONSTANT,
        gains=tuple(gains),
    )


def _check(opened: Artifact) -> None:
    if FACTS[opened.task.kind].borrows_head:
        told = f"kind: {opened.task.kind}, whose head is the checkpoint's"
        raise DataError(f"{opened.folder} has no head of its own that a gain could be traced to", [told])
    if not opened.manifest.recipe:
        raise DataError(f"{opened.folder} keeps no recipe, by which its head could be trained alone")


def _head_alone(opened: Artifact, output: str | Path, root: str | Path | None) -> dict[str, Any]:
    recipe: dict[str, Any] = dict(opened.manifest.recipe)
    data = {**recipe["data"], "root": None if root is None else str(root)}
    training = {**recipe.get("training", {}), "start_from": None, "objective": None}  # both are about a method
    return {**recipe, "method": {"kind": "none"}, "data": data, "training": training, "output": str(output)}


def _constant(opened: Artifact, outcome: Outcome, vocabulary: Vocabulary) -> Outcome | None:
    """The answers of who knows how common each training label is and reads no row; None where no answer is common."""
    task = outcome.task
    if not isinstance(task, ConfidentTask) or (task.labels == () and task.classes != 1) or task.problem == "regression":
        return None
    shares = _shares(opened, task.labels)
    logits_C = torch.logit(shares, eps=1e-6) if task.problem == "multi-label" else shares.clamp(min=1e-6).log()
    outputs: list[Any] = []
    for feature in outcome.features:
        batch = task.collate([feature], vocabulary)
        shape = batch.inputs["input_ids"].shape
        places = shape[:2] if task.answers_places else shape[:1]
        logits = logits_C.expand(*places, len(logits_C)) if task.labels else torch.zeros(places)
        outputs += task.outputs(logits, batch)
    return replace(outcome, outputs=outputs)


def _shares(opened: Artifact, labels: Sequence[str]) -> torch.Tensor:
    """(C,): of the training rows (or words), the share with each label."""
    data = opened.manifest.data
    counts = data.label_counts.get("train", {})
    found = torch.tensor([float(counts.get(label, 0)) for label in labels])
    rows = data.rows.get("train", 0) if opened.task.problem == "multi-label" else float(found.sum())
    return found / max(1.0, rows)
