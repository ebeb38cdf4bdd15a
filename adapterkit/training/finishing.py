"""The end of a run: the state that is kept is taken, rounded, scored on every split, saved and drawn."""

import logging
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from adapterkit.artifact import round_weights, save
from adapterkit.artifact.saving import golden_of
from adapterkit.data import Rows
from adapterkit.errors import OutputError
from adapterkit.manifest import REPORT, write_file
from adapterkit.metrics import LabelScore, Metric
from adapterkit.scoring import outputs_of, score
from adapterkit.tasks.closer_look import look_at
from adapterkit.training.checkpoint import remove_checkpoint
from adapterkit.training.environment import by_first
from adapterkit.training.job import Job
from adapterkit.training.journal import Journal
from adapterkit.training.reporting import report_of

logger = logging.getLogger(__name__)


def finish(
    job: Job, kept: Mapping[str, Tensor] | None, steps: int, journal: Journal, *, overwrite: bool
) -> dict[str, dict[str, Metric]]:
    """Take the state that is kept, round it to the artifact's format, score it on every split, save and report.
    `kept`: as `Adapted.state` gave it; None takes the last one. Returns split -> metric -> value with its interval.
    Raises OutputError: the artifact cannot be written; nothing is left half-written."""
    adapted = job.adapted
    if kept is not None:
        adapted.load_state(kept)
    # The artifact's number format: what was computed in, unless the recipe says otherwise.
    dtype: Any = job.recipe.training.save_dtype
    dtype = str(adapted.compute_dtype).removeprefix("torch.") if dtype == "auto" else dtype
    round_weights(adapted, dtype)
    metrics: dict[str, dict[str, Metric]] = {}
    looked: dict[str, dict[str, Any]] = {}
    for split, rows in (("validation", job.rows.validation), ("test", job.rows.test)):
        if rows is not None:
            job.display.say(f"scoring {len(rows):,} {split} rows …")
            metrics[split], looked[split] = _score(job, split, rows)
            shown = {name: [metric.value, metric.low, metric.high] for name, metric in metrics[split].items()}
            journal.write("score", step=steps, split=split, metrics=shown)
            if labels := looked[split]["labels"]:
                journal.write("labels", step=steps, split=split, labels=labels)
                job.display.by_label(split, {label: LabelScore(**score) for label, score in labels.items()})
    adapted.shortcut = None  # the golden rows prove what the whole model answers
    settings, rows = job.recipe.training, job.rows.validation or job.rows.test or job.held_rows()
    golden = golden_of(adapted, rows, settings.golden_rows, settings.seed)  # every process: they may hold parts alone

    def write() -> None:
        save(
            job.output,
            adapted,
            recipe=job.recipe,
            data=job.rows.facts.model_copy(update={"length_tokens": _lengths(job)}),
            metrics=metrics,
            calibration={split: float(found["ece"]) for split, one in looked.items() if (found := one["calibration"])},
            seed=settings.seed,
            golden=golden,
            parent=job.before,
            overwrite=overwrite,
            dtype=dtype,
        )
        remove_checkpoint(job.checkpoint)
        try:
            write_file(job.output / REPORT, report_of(job, metrics, looked).encode())
        except OutputError as error:  # the artifact stands there, and is what the run was for
            logger.warning("the artifact is saved, and there is no report of its run: %s", error.message)

    by_first(job.accelerator, write)
    return metrics


def _score(job: Job, split: str, rows: Rows) -> tuple[dict[str, Metric], dict[str, Any]]:
    """Score a split, and look closer at it.

    On validation rows the task chooses what is chosen there: the threshold of "no answer".
    """
    adapted, size, features = job.adapted, job.recipe.training.evaluation_batch_size, job.features[split]
    outputs = outputs_of(adapted, features, batch_size=size, accelerator=job.accelerator)
    if split == "validation":
        adapted.task = adapted.task.calibrated(rows, features, outputs)
    scores = score(adapted, rows, features, outputs=outputs, batch_size=size, accelerator=job.accelerator)
    show = job.recipe.data.show_rows != "nowhere"
    return scores, look_at(adapted.task, rows, features, outputs, show=show)


def _lengths(job: Job) -> dict[str, tuple[int, int, int]]:
    """Split -> median, 95th percentile and longest, in tokens."""
    found = {}
    for split, features in job.features.items():
        if tokens := sorted(feature.length_tokens for feature in features):
            found[split] = tokens[(len(tokens) - 1) // 2], tokens[math.ceil(0.95 * len(tokens)) - 1], tokens[-1]
    return found
