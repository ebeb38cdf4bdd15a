"""For those who have a loop: an adapter to optimise, and what it has become as an artifact."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapterkit import adapted as building
from adapterkit import artifact
from adapterkit.adapted import Adapted
from adapterkit.artifact import DataFacts
from adapterkit.artifact.saving import SaveDtype
from adapterkit.backbone import Backbone
from adapterkit.data import IN_MEMORY, named_rows, rows_of
from adapterkit.errors import RecipeError
from adapterkit.metrics import Metric
from adapterkit.recipe import HeadSettings, MethodSettings
from adapterkit.recipe.schema import HEAD, METHOD
from adapterkit.recipe.settings import SettingsError
from adapterkit.recipe.task import TaskSettings
from adapterkit.tasks import TASKS, Task


def build(
    backbone: Backbone,
    task: str | Mapping[str, Any] | Task,
    method: Mapping[str, Any] | MethodSettings | None = None,
    head: Mapping[str, Any] | HeadSettings | None = None,
    *,
    rows: Any = None,
    seed: int = 0,
) -> Adapted:
    """An adapter on a backbone, as a Module whose parameters with `requires_grad` are what there is to optimise.

    Args:
        backbone: stays as it is; any number of adapters may use it.
        task: a kind ("text-classification"), a recipe's `task` block, or a prepared task.
        method: a recipe's `method` block; None for LoRA as a recipe has it.
        head: a recipe's `head` block.
        rows: training rows, of which labels are learned; see `data.rows_of`. Needed unless `task.labels` names them,
            or the kind has none.
        seed: of the first weights.

    Raises:
        RecipeError: blocks that are not valid, or labels that nobody names.
        DataError: rows of which no task can be made.
        SiteError: sites that the backbone does not have.
        HeadError: a head that does not fit.
    """
    prepared = task if isinstance(task, Task) else _prepared(task, rows)
    try:
        blocks = METHOD(method or {}), HEAD(head or {})
    except (SettingsError, ValueError) as error:
        raise RecipeError("method or head is not valid", [str(error)]) from error
    return building.build(backbone, prepared, *blocks, seed)


def save(
    adapted: Adapted,
    folder: str | Path,
    *,
    metrics: Mapping[str, Mapping[str, Metric | float]] | None = None,
    rows: Any = None,
    source: str = IN_MEMORY,
    seed: int = 0,
    overwrite: bool = False,
    dtype: SaveDtype = "auto",
) -> Path:
    """Write what a loop of one's own has trained as an artifact.

    Args:
        adapted: as `build` made it. Its weights are rounded to `dtype`, in place.
        folder: where it shall stand.
        metrics: split -> metric -> a value, or a `Metric` with its interval.
        rows: training rows, whose digest is kept and of which golden rows are taken; None for made ones.
        source: what the rows are called.
        seed: that it was built with.
        overwrite: replace what stands there.
        dtype: of the saved tensors.

    Raises:
        RecipeError: metrics that name no split.
        OutputError: something stands there, or the disk refuses.
        ArtifactError: weights that are not finite.
    """
    task = adapted.task
    held = None if rows is None else named_rows(rows_of(rows), {}, needs=task.columns)
    usable = [] if held is None else list(task.check_rows(held, "score").rows)
    facts = (
        DataFacts(source=source)
        if held is None
        else DataFacts(source=source, rows={"train": len(usable)}, digests={"train": held.digest()})
    )
    return artifact.save(
        folder,
        adapted,
        recipe={
            "task": task.settings.model_dump(mode="json", exclude_defaults=True),
            "backbone": {"name": adapted.backbone.name},
            "method": adapted.method.portable(),
            "head": adapted.head.model_dump(mode="json"),
            "data": {},
        },
        data=facts,
        metrics=_with_intervals(metrics or {}),
        seed=seed,
        golden=usable or task.sample_rows(task.labels, task.problem),
        overwrite=overwrite,
        dtype=dtype,
    )


def _prepared(task: str | Mapping[str, Any], rows: Any) -> Task:
    block = {"kind": task} if isinstance(task, str) else task
    try:
        settings = TaskSettings.model_validate(block)
    except ValueError as error:
        raise RecipeError("the task is not valid", [str(error)]) from error
    kind = TASKS[settings.kind]
    if rows is None and kind.has_labels(settings) and settings.labels is None:
        raise RecipeError(
            f"nobody says what the labels of this {settings.kind} are",
            ["found neither task.labels nor rows"],
            'As in ak.build(backbone, {"kind": …, "labels": ["no", "yes"]}) or ak.build(…, rows=training_rows)',
        )
    problem = settings.problem if settings.problem != "auto" else ""
    held = (
        kind.sample_rows(settings.labels or (), problem)
        if rows is None
        else named_rows(rows_of(rows), {}, needs=kind.columns)
    )
    return kind.prepare(settings, held)


def _with_intervals(metrics: Mapping[str, Any]) -> dict[str, dict[str, Metric]]:
    flat = [name for name, scores in metrics.items() if not isinstance(scores, Mapping)]
    if flat:
        raise RecipeError(
            "metrics name no split", [f"{name}: found a value" for name in flat], 'As in {"test": {"accuracy": 0.93}}'
        )
    return {
        split: {
            name: score if isinstance(score, Metric) else Metric(float(score), float(score), float(score))
            for name, score in scores.items()
        }
        for split, scores in metrics.items()
    }
