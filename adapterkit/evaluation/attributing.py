"""Which part of an adapter made the gain: its head, or the representation under it."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Unpack

import torch

from adapterkit.artifact import Artifact, open_artifact
from adapterkit.artifact.loading import find_backbone
from adapterkit.backbone import Backbone
from adapterkit.errors import DataError
from adapterkit.evaluation.outcome import HowAnswered, Outcome, Question, ask, made
from adapterkit.evaluation.rows import kept_recipe
from adapterkit.metrics.paired import difference
from adapterkit.recipe import resolve
from adapterkit.recipe.kinds import FACTS
from adapterkit.records import AttributionRecord
from adapterkit.records.evaluation import GainRecord
from adapterkit.tasks.confident import ConfidentTask
from adapterkit.tasks.protocol import Vocabulary
from adapterkit.training import train
from adapterkit.training.datasets import read_recipe_rows
from adapterkit.training.whole import train_fully

CONSTANT, HEAD, REPRESENTATION, FULL = "constant answer", "head", "representation", "full fine-tuning"
ARTIFACT, BACKBONE, AGAIN = "artifact", "backbone", "trained again"


def attribute(
    artifact: str | Path,
    data: Any = None,
    *,
    other_backbone: Backbone | str | Path | None = None,
    full_rate: float | None = None,
    resamples: int = 1000,
    output: str | Path | None = None,
    quiet: bool = True,
    **how: Unpack[HowAnswered],
) -> AttributionRecord:
    """Say what each step gains over the one before it, on the same test rows.

    From the commonest answer over the head alone to the adapter. The head alone is trained by the artifact's own recipe
    without its method: on the frozen backbone, whose states below the head are computed once and kept
    (`training.cache`). With another backbone: from the artifact as it is, over the same tensors on the other backbone,
    to what the recipe trains on that one, so that what the backbone gains and what training gains stand apart.

    Args:
        artifact: its folder. The training rows that its recipe names are read again.
        data: test rows, as `evaluate` takes them, and its other arguments.
        other_backbone: another version of the backbone: other weights of the same shape, the same tokenizer.
        full_rate: the learning rate of a last step, in which the recipe trains the whole backbone too (the other one,
            where there is one); nothing of it is kept. None leaves it out.
        output: where the artifact of the head alone, or that on the other backbone, is kept; None keeps none.

    Raises:
        ContractError: the other backbone differs in more than its weights.
        DataError: the kind has no head of its own, or the artifact keeps no recipe.
        AdapterkitError: as of `train` and `evaluate`.
    """
    opened = open_artifact(artifact, parts=how.get("parts"))
    if FACTS[opened.task.kind].borrows_head:
        told = f"kind: {opened.task.kind}, whose head is the checkpoint's"
        raise DataError(f"{opened.folder} has no head of its own that a gain could be traced to", [told])
    if not opened.manifest.recipe:
        raise DataError(f"{opened.folder} keeps no recipe, by which its head could be trained alone")
    question = ask(opened, data, **how)
    under, other = question.backbone, None
    if other_backbone is not None:
        other = find_backbone(opened, other_backbone)
        opened.check_backbone(other, other_version=True)
    whole = question.answers()
    # Where it started, and what it was shaped by, are both about a method.
    recipe = kept_recipe(opened, how.get("data_root"), start_from=None, objective=None)
    with tempfile.TemporaryDirectory() as folder:

        def trained(on: Backbone, changes: Mapping[str, Any]) -> Outcome:
            result = train(
                {**recipe, **changes, "output": str(output or Path(folder) / "trained")}, backbone=on, quiet=quiet
            )
            return question.answers(open_artifact(result.artifact), on=on)

        steps: list[tuple[str, Outcome]] = []
        alone = again = None
        if other is not None:
            kept = question.answers(on=other, other_version=True)
            again = trained(other, {})
            steps = [(ARTIFACT, whole), (BACKBONE, kept), (AGAIN, again)]
        else:
            constant = _constant(opened, whole, Vocabulary.of(under.tokenizer, under.max_tokens))
            steps = [] if constant is None else [(CONSTANT, constant)]
            adapts = opened.manifest.method.attaches
            alone = trained(under, {"method": {"kind": "none"}}) if adapts else whole
            steps += [(HEAD, alone), *([(REPRESENTATION, whole)] if adapts else [])]
    if full_rate is not None:
        steps.append((FULL, _full(question, recipe, other or under, full_rate)))
    metric = whole.task.main_metric
    scores = [(name, outcome.metrics(resamples=resamples)[metric]) for name, outcome in steps]
    return AttributionRecord(
        **made(),
        answering=whole.answering,
        head_alone=None if alone is None else alone.answering,
        again=None if again is None else again.answering,
        data=question.used,
        resamples=resamples,
        metric=metric,
        starts_from=scores[0][0],
        gains=tuple(
            GainRecord(name=name, difference=difference(before, after))
            for (_, before), (name, after) in pairwise(scores)
        ),
    )


def _full(question: Question, recipe: Mapping[str, Any], backbone: Backbone, rate: float) -> Outcome:
    asked = {"method": {"kind": "none"}, "training": {**recipe.get("training", {}), "learning_rate": rate}}
    asked["training"].pop("head_learning_rate", None)
    resolved = resolve({**recipe, **asked}).recipe
    with train_fully(resolved, read_recipe_rows(resolved), backbone) as adapted:
        return question.answers_of(adapted)


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
