"""Calibrate an artifact: a temperature, and a threshold to abstain by, in a new version of it."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from torch import Tensor

from adapterkit.adapted import Adapted
from adapterkit.artifact import check_output, open_artifact, save_version
from adapterkit.artifact.golden import compute_golden
from adapterkit.data import Rows
from adapterkit.errors import DataError
from adapterkit.evaluation.outcome import SEED, HowAnswered, ask, dtype_of, made
from adapterkit.manifest import open_manifest
from adapterkit.metrics import Judged, measure_calibration
from adapterkit.metrics.abstaining import find_threshold
from adapterkit.recipe.task import Abstaining, TaskSettings
from adapterkit.records import Answerer, CalibratingRecord
from adapterkit.tasks.confident import COLDEST, HOTTEST, ConfidentTask
from adapterkit.tasks.finite import no_numbers, without_lost
from adapterkit.tasks.protocol import Task
from adapterkit.tasks.values import Batch

FEWEST_ROWS = 30
"""Of fewer rows, a temperature says more about them than about the adapter."""
LEAST = 2.0**-52
"""Of a probability whose log is taken."""
MORE_ROWS = "Calibrate on more rows, which were not trained on."


def calibrate(
    artifact: str | Path,
    data: Any,
    output: str | Path,
    *,
    risk: float | None = None,
    certainty: float | None = None,
    overwrite: bool = False,
    **how: Unpack[HowAnswered],
) -> CalibratingRecord:
    """Fit a temperature on rows that were not trained on, and store it in a new version of the artifact.

    Where an answer is one of some classes it is the one that makes the right answers likeliest: the least loss of the
    task on these rows. Of answers of several parts (tags, several labels, spans) it is the one under which their
    confidence as a whole tells best which are right (`loss_of_whole`). It changes no answer, only its confidence,
    wherever the new version answers. With a risk, answers are withheld up to a confidence as well; half of the rows
    then fit the temperature and the other half, which it has not seen, the threshold.

    Args:
        artifact: its folder, which stays as it is.
        data: rows, as `evaluate` takes them, and its other arguments.
        output: where the new version shall stand.
        risk: see `metrics.abstaining.find_threshold`; None takes `task.abstain` of its recipe, and withholds nothing
            where there is none.
        certainty: None takes that of `task.abstain`, or 0.9.

    Raises:
        DataError: answers of this kind have no confidence; the rows cannot tell; or no threshold keeps the risk.
        ArtifactError, ContractError, BackboneError: the artifact or its backbone cannot be used.
        OutputError: something stands at `output`.
    """
    check_output(Path(output), overwrite=overwrite)
    opened = open_artifact(artifact, parts=how.get("parts"))
    task = _confident(opened.task)
    settings = _with_risk(task.settings, risk, certainty)
    question = ask(opened, data, **how)
    rows = question.rows
    order = np.random.default_rng(SEED).permutation(len(rows))
    apart = [rows.select(sorted(order[first::2].tolist())) for first in (0, 1)]
    halves = [rows, rows] if settings.abstain is None else apart
    with opened.adapted(question.backbone) as adapted:
        fitting, measuring = (_computed(adapted, half, question.batch_size) for half in halves)
        judged = partial(_judged, halves[1], measuring)
        first = _judged(halves[0], fitting, task)
        count, right = len(first.right), int(first.right.sum())
        if count < FEWEST_ROWS or right in (0, count):
            told = f"{count} rows, {right} answered right; expected {FEWEST_ROWS} at least, and some of either"
            raise DataError("these rows cannot say how sure to be", [told], MORE_ROWS)
        whole = task.answers_places or task.problem == "multi-label" or first.nats is None
        fits = loss_of_whole(partial(_judged, halves[0], fitting), task) if whole else loss_of_classes(task, fitting)
        asked: dict[str, Any] = {"settings": settings, "temperature": fit_temperature(fits)}
        fitted, threshold = replace(task, **asked), None
        if (wanted := settings.abstain) is not None:
            found = judged(fitted)
            threshold = find_threshold(found.confidence, found.right, wanted.risk, wanted.certainty)
            if threshold is None:
                raise _no_threshold(found, wanted)
            fitted = replace(fitted, abstain_up_to=threshold.abstain_up_to)
        adapted.task = fitted
        golden = compute_golden(adapted, [row.row for row in opened.manifest.golden.rows])
    metrics = opened.manifest.model_dump(mode="json", include={"metrics"}, exclude_defaults=True).get("metrics", {})
    for named in metrics.values():
        named.pop("loss", None)  # of probabilities, which are others now
    after = measure_calibration(judged(fitted))
    changes = {"golden": golden.model_dump(mode="json"), "task": fitted.to_dict(), "metrics": metrics}
    changes["calibration"] = {"calibrated": float(after.ece)}  # of other splits nobody knows
    save_version(output, opened.folder, changes, overwrite=overwrite)
    return CalibratingRecord(
        **made(),
        answering=Answerer.of(open_manifest(output), dtype_of(adapted)),
        data=question.used,
        temperature=fitted.temperature,
        before=measure_calibration(judged(task)),
        after=after,
        threshold=threshold,
    )


def fit_temperature(loss: Callable[[float], float]) -> float:
    """The temperature with the least loss. Raises DataError: it is at an end of what temperatures may be, since the
    rows cannot tell: nearly all answers are right, or hardly any."""
    from scipy.optimize import minimize_scalar

    bounds = math.log(COLDEST), math.log(HOTTEST)
    found = minimize_scalar(
        lambda log_temperature: loss(math.exp(log_temperature)),
        bounds=bounds,
        method="bounded",
        options={"xatol": 1e-4},
    ).x
    if min(abs(found - bound) for bound in bounds) < 1e-2:
        told = f"the best temperature is {math.exp(found):.3g}, at the end of {COLDEST:g} to {HOTTEST:g}"
        raise DataError("these rows cannot say how sure to be", [told], MORE_ROWS)
    return float(math.exp(found))


def loss_of_classes(task: Task, computed: Iterable[tuple[Any, Batch, Tensor]]) -> Callable[[float], float]:
    """Temperature -> the task's loss: of answers that are one of some classes, of which each has a probability."""
    held = [(batch, logits.float()) for _, batch, logits in computed]

    def loss(temperature: float) -> float:
        found = [task.loss(logits / temperature, batch) for batch, logits in held]
        return sum(float(one.total) for one in found) / sum(float(one.weight) for one in found)

    return loss


def loss_of_whole(judge: Callable[[Task], Judged], task: ConfidentTask) -> Callable[[float], float]:
    """Temperature -> -log of the confidence in right answers, and of what is left of it in wrong ones, on average.

    Of answers of several parts, whose confidence is a product, this is what makes it tell the truth: parts are seldom
    wrong apart from each other, so a temperature that fits every part by itself makes the whole too unsure.
    """

    def loss(temperature: float) -> float:
        found = judge(replace(task, temperature=temperature))
        sure_N = np.clip(np.where(found.right, found.confidence, 1 - found.confidence), LEAST, 1.0)
        return float(-np.log(sure_N).mean())

    return loss


def _computed(adapted: Adapted, rows: Rows, batch_size: int) -> list[tuple[list[int], Batch, Tensor]]:
    """Rows by number, as batches with their logits, on the CPU, so that any temperature costs no forward."""
    features = adapted.task.encode(rows, adapted.vocabulary, "score").features
    held, lost = [], set[int]()
    for chosen, batch, computed in adapted.computed(features, batch_size=batch_size):
        logits, places = without_lost(computed, batch)
        lost |= {features[chosen[place]].row for place in places}
        held.append((list(chosen), batch.to("cpu"), logits.cpu()))
    if lost:
        raise no_numbers(sorted(lost))
    return held


def _judged(rows: Rows, computed: Iterable[tuple[list[int], Batch, Tensor]], task: Task) -> Judged:
    features, outputs = list[Any](), list[Any]()
    for _, batch, logits in computed:
        features += batch.features
        outputs += task.outputs(logits, batch)
    order = sorted(range(len(features)), key=lambda place: features[place].index)
    found = task.compared(rows, [features[place] for place in order], [outputs[place] for place in order])
    assert found.judged is not None  # a task without confidence was refused
    return found.judged


def _confident(task: Task) -> ConfidentTask:
    if isinstance(task, ConfidentTask) and task.problem != "regression":
        return task
    raise DataError(f"answers of {task.problem or task.kind} have no confidence to calibrate")


def _with_risk(settings: TaskSettings, risk: float | None, certainty: float | None) -> TaskSettings:
    """The settings with what is asked for. Raises DataError for what is no share."""
    before = settings.abstain.model_dump() if settings.abstain is not None else {}
    asked = {name: value for name, value in (("risk", risk), ("certainty", certainty)) if value is not None}
    problems = [f"{name}: found {value:g}, expected 0 to 1" for name, value in asked.items() if not 0 < value < 1]
    problems += ["certainty: belongs to a risk, and there is none"] * (asked.keys() == {"certainty"} and not before)
    if problems:
        raise DataError("answers cannot be withheld so", problems)
    abstain = Abstaining.model_validate({**before, **asked}) if asked else settings.abstain
    return TaskSettings.model_validate({**settings.model_dump(), "abstain": abstain}) if asked else settings


def _no_threshold(found: Judged, asked: Abstaining) -> DataError:
    surest = np.argsort(-found.confidence, kind="stable")[: max(1, len(found.right) // 4)]
    enough = math.ceil(math.log(1 - asked.certainty) / math.log(1 - asked.risk))
    return DataError(
        f"no confidence keeps the share of wrong answers within {asked.risk:g}",
        [
            f"surest quarter: {1 - found.right[surest].mean():.1%} of {len(surest)} rows are wrong",
            f"rows needed, were none wrong: {enough}",
        ],
        "Allow a higher risk, give more rows, or train a better adapter.",
    )
