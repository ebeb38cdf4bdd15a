"""One training run, from a recipe to an artifact."""

import json
import logging
import os
import shlex
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from adapterkit.adapted import build
from adapterkit.artifact import read_parts
from adapterkit.backbone import Backbone
from adapterkit.data import IN_MEMORY, Rows, splits_of
from adapterkit.glance import in_short
from adapterkit.metrics import Metric
from adapterkit.recipe import Recipe, resolve
from adapterkit.recipe.load import folder_of
from adapterkit.scoring import score
from adapterkit.tasks.protocol import GeneratingTask
from adapterkit.training.agreement import check_agreement
from adapterkit.training.batches import Batches, HeldBatches, StreamedBatches
from adapterkit.training.checkpoint import load_checkpoint, remove_checkpoint, save_checkpoint
from adapterkit.training.end_tokens import end_token_note
from adapterkit.training.environment import (
    check_device,
    compute_dtype,
    load_backbone,
    make_accelerator,
    told_of_lost_processes,
)
from adapterkit.training.finishing import finish
from adapterkit.training.interrupt import Interrupt
from adapterkit.training.job import Job
from adapterkit.training.journal import Journal
from adapterkit.training.launch import check_launch
from adapterkit.training.learner import idle_rates, make_learner
from adapterkit.training.objectives.objective import make_objective
from adapterkit.training.reporting import header_of
from adapterkit.training.reuse import Reuse
from adapterkit.training.run_display import RunDisplay
from adapterkit.training.sharded import shards_of
from adapterkit.training.standing import RUN_FOLDER, Progress, Resume, begin, check_start, output_of
from adapterkit.training.start import open_start
from adapterkit.training.trackers import Tracking
from adapterkit.training.trunk_cache import use_cache
from adapterkit.training.turn import Learning, Step, Turn, turns

logger = logging.getLogger(__name__)

_RESAMPLES = 200
"""Of the validation rows, for the standard error of a score."""

_ROOM = 4
"""How many times the bytes of the layouts have to be free, since a plan counts none."""


@dataclass(frozen=True)
class Result:
    """What a training run gave.

    Attributes:
        artifact: its folder.
        metrics: split -> metric -> value with its 95 % interval.
        steps: optimizer steps taken.
    """

    artifact: Path
    metrics: dict[str, dict[str, Metric]]
    steps: int

    __repr__ = in_short("artifact", "metrics", "steps")


class Paused(Exception):  # noqa: N818 - it is no error
    """A run paused where it was told to, and goes on with `resume`.

    Attributes:
        steps: optimizer steps done.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        super().__init__(f"paused after step {steps}")


Run = Generator[Turn, None, Result]
"""A run that hands out each step when its rows are chosen, and goes on when the step's gradients are computed."""


def train(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    *,
    data: Mapping[str, Any] | None = None,
    backbone: Backbone | None = None,
    overrides: Sequence[str] = (),
    resume: Resume = False,
    overwrite: bool = False,
    quiet: bool = False,
    reuse: Reuse | None = None,
    pause_after: Callable[[Batches], int] | None = None,
) -> Result:
    """Train an adapter as a recipe says, and write its artifact.

    Args:
        recipe: a file, the name of a shipped recipe, an artifact's folder, a mapping or a Recipe.
        data: "train", "validation" or "test" -> rows in memory (dicts, a DataFrame, a `datasets.Dataset`; see
            `data.rows_of`), a file, a share or None, in the place of what the recipe's `data` says. The artifact keeps
            the rows' digests, and "rows in memory" as their source.
        backbone: a loaded backbone to train on; it is given back as it was. None loads the recipe's.
        overrides: "path=value" each, set on top of the recipe.
        resume: go on from the checkpoint of a run that was stopped; "auto" where there is one.
        overwrite: replace what stands at the output.
        quiet: show no progress.
        reuse: what earlier runs in this process have loaded and encoded.
        pause_after: the step after whose validation, or the next one, the run pauses.

    Raises:
        AdapterkitError: of the kind that fits: recipe, data, backbone, site, head, device, output or training.
        KeyboardInterrupt: stopped by the user, after a checkpoint was written.
        Paused: at the step that `pause_after` gave, after a checkpoint was written.
    """
    run = begin_run(
        recipe,
        Interrupt(),
        reuse or Reuse(),
        data=data,
        backbone=backbone,
        overrides=overrides,
        resume=resume,
        overwrite=overwrite,
        quiet=quiet,
        pause_after=pause_after,
    )
    devices = list(range(torch.cuda.device_count()))
    with told_of_lost_processes(), torch.random.fork_rng(devices), closing(run):
        while True:
            try:
                turn = next(run)
            except StopIteration as end:
                result: Result = end.value
                return result
            turn.compute()


def begin_run(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    interrupt: Interrupt,
    reuse: Reuse,
    *,
    data: Mapping[str, Any] | None = None,
    backbone: Backbone | None = None,
    overrides: Sequence[str] = (),
    resume: Resume = False,
    overwrite: bool = False,
    quiet: bool = False,
    pause_after: Callable[[Batches], int] | None = None,
) -> Run:
    """The run that `train` drives; its arguments and errors are the same. The global random generators are its own."""
    given, changes = rows_given(data, overrides)
    resolved = resolve(recipe, changes)
    if launched := check_launch(os.environ, resolved.recipe):
        resolved = resolve(recipe, [*changes, f"training.precision={launched}"])
    wanted, settings, output = resolved.recipe, resolved.recipe.training, output_of(resolved)
    for note in resolved.notes:
        if reuse.is_news(note):
            logger.warning(note)
    resume = check_start(output, resume=resume, overwrite=overwrite)
    accelerator = make_accelerator(wanted, output / RUN_FOLDER)
    sharded = shards_of(os.environ, accelerator, wanted)
    with RunDisplay(quiet=quiet or not accelerator.is_main_process) as display:
        start = open_start(wanted)
        rows = reuse.rows(wanted, folder_of(recipe), given, None if start is None else start.known)
        for note in rows.notes:
            display.warn(note)
        if sharded is not None:
            backbone = backbone or load_backbone(wanted, accelerator, to_shard=True)
        else:
            backbone = backbone or reuse.backbone(wanted, accelerator)
            check_device(backbone, accelerator)
        narrow = compute_dtype(wanted, backbone)
        parts = read_parts(wanted.method, backbone)
        with build(backbone, rows.task, wanted.method, wanted.head, settings.seed, parts=parts) as adapted:
            adapted.compute_dtype = narrow
            if start is not None:
                display.say(start.give(adapted, backbone))
            objective = make_objective(settings, adapted, backbone, rows.sample, accelerator.num_processes)
            backbone = adapted.backbone  # of weights that are cut into shards, nobody else has to hold the whole
            for path, reason in idle_rates(adapted, settings).items():
                display.warn(f"{path} has no effect: {reason}")
            features = reuse.features(rows, adapted, display)
            if (note := end_token_note(adapted, rows.sample)) and reuse.is_news(note):
                display.warn(note)
            tracking, command = Tracking(accelerator), _command(recipe, overrides)
            runs = reuse.runs_like(wanted)
            job = Job(wanted, rows, features, adapted, accelerator, sharded, display, tracking, output, command, runs)
            job = replace(job, objective=objective, before=None if start is None else start.artifact.manifest)
            try:
                return (yield from _run(job, interrupt, resume=resume, overwrite=overwrite, pause_after=pause_after))
            finally:
                tracking.end()


def rows_given(data: Mapping[str, Any] | None, overrides: Sequence[str]) -> tuple[dict[str, Rows], list[str]]:
    """Split -> rows in memory, of what `train` is given as `data`, and the overrides with where the others stand."""
    given, sources = ({}, {}) if data is None else splits_of(data)
    sources |= dict.fromkeys(given, IN_MEMORY)
    return given, [*overrides, *(f"data.{split}={json.dumps(source)}" for split, source in sources.items())]


def _run(
    job: Job,
    interrupt: Interrupt,
    *,
    resume: bool,
    overwrite: bool,
    pause_after: Callable[[Batches], int] | None = None,
) -> Run:
    """Train, with validation, checkpoints and stops as the recipe says; then score and save."""
    settings, accelerator, adapted = job.recipe.training, job.accelerator, job.adapted
    defaults = job.recipe.defaults()
    progress = begin(job.checkpoint, job.made_of(), resume=resume, overwrite=overwrite, defaults=defaults)
    check_agreement(job, progress)
    ranks = accelerator.num_processes
    batches = _batches(job)
    for line in header_of(job):
        job.display.say(line)
    pause = batches.total_steps if pause_after is None else pause_after(batches)
    there = pause <= progress.steps < batches.total_steps and not progress.is_enough(settings.patience)
    if there and _due(settings.evaluate_every, progress.steps, batches):
        raise Paused(progress.steps)
    if job.sharded is not None:
        job.sharded.spread(adapted)
    _pack(job)
    kept_states = use_cache(job, batches)
    beside = {} if job.objective is None else job.objective.parameters()
    learner = make_learner(adapted, settings, batches.total_steps, done=progress.steps, beside=beside)
    adapted.checkpoint_layers(settings.gradient_checkpointing)
    weights = adapted.task.class_weights(settings.class_weights, job.held_rows())
    class_weights = None if weights is None else torch.tensor(weights, device=adapted.backbone.device)
    kept = load_checkpoint(job.checkpoint, learner, adapted.state()) if resume else None
    if accelerator.is_main_process and not resume:
        remove_checkpoint(job.checkpoint)
    job.tracking.begin(job.recipe, progress.steps)
    path = job.folder / "journal.jsonl" if accelerator.is_main_process else None
    with Journal(path, resume_after=progress.steps if resume else None) as journal:
        journal.write(
            "begin", step=progress.steps, total_steps=batches.total_steps, trunk_cache=kept_states, **_sizes(job)
        )
        job.display.begin(batches.total_steps, progress.steps)
        learning = Learning(adapted, batches, learner, settings, accelerator, class_weights, job.objective)
        steps = turns(learning, done=progress.steps, position=progress.position)
        with interrupt:
            for turn in () if progress.is_enough(settings.patience) else steps:
                yield turn
                step = turn.finish(asked=interrupt.asked)
                progress.steps, progress.position = step.number, step.position
                _report(step, journal, job.tracking)
                last = step.number == batches.total_steps
                validating = last or _due(settings.evaluate_every, step.number, batches)
                if validating and _validate(job, step, progress, journal):
                    kept = {name: tensor.cpu() for name, tensor in adapted.state().items()}
                job.display.step(step, batches.steps_per_epoch)
                enough = progress.is_enough(settings.patience)
                # A validation takes long, and so may what follows the last step.
                stopped = interrupt.wished(accelerator) if validating or ranks == 1 else step.asked
                paused = validating and step.number >= pause and not (last or enough)
                if last or enough or stopped or paused or _due(settings.checkpoint_every, step.number, batches):
                    save_checkpoint(job.checkpoint, progress, learner, kept, accelerator)
                if stopped:
                    raise KeyboardInterrupt
                if paused:
                    raise Paused(step.number)
                if enough:
                    job.display.say(f"No better validation in {settings.patience}: stopped early.")
                    break
        job.display.finish()
        scores = finish(
            job, kept if settings.keep_best else None, progress.steps, journal, overwrite=overwrite or resume
        )
    return Result(job.output, scores, progress.steps)


def _pack(job: Job) -> None:
    """Let the frozen products of a CPU be laid out, if the recipe agrees, every process holds the whole backbone, and
    the layouts fit well into the memory that is free. The adapter's modules are its own: the layouts go with them.
    """
    backbone = job.adapted.backbone
    if job.recipe.training.packed == "off" or backbone.device.type != "cpu" or job.sharded is not None:
        return
    from adapterkit.methods.fused import most_bytes, put_on

    trunk, sites = backbone.trunk, backbone.known_sites.sites
    if _ROOM * most_bytes(trunk, sites) <= psutil.virtual_memory().available:
        put_on(trunk, sites)


def _validate(job: Job, step: Step, progress: Progress, journal: Journal) -> bool:
    """Score the validation rows, if there are any. Returns whether this state is kept for now."""
    task, rows = job.adapted.task, job.rows.validation
    if rows is None:
        return False
    metrics = score(
        job.adapted,
        rows,
        job.features["validation"],
        batch_size=job.recipe.training.evaluation_batch_size,
        resamples=_RESAMPLES,
        # Generation is slow, so that it waits for the end of the run unless it picks the best state.
        generated=isinstance(task, GeneratingTask) and job.rows.metric in task.generated_metrics,
        accelerator=job.accelerator,
    )
    main = job.rows.metric
    kept = progress.keeps(metrics[main])
    plain = {name: metric.value for name, metric in metrics.items()}
    intervals = {name: [metric.low, metric.high] for name, metric in metrics.items()}
    journal.write("validation", step=step.number, metrics=plain, intervals=intervals, kept=kept)
    job.tracking.log({f"validation/{name}": value for name, value in plain.items()}, step.number)
    job.display.validation(step, metrics, main, kept=kept)
    return kept


def _command(recipe: str | Path | Mapping[str, Any] | Recipe, overrides: Sequence[str]) -> str:
    """What a person would type to begin this run."""
    if isinstance(recipe, str | Path):
        return shlex.join(["adapterkit", "train", str(recipe), *overrides])
    return "ak.train(recipe)  # the recipe below"


def _report(step: Step, journal: Journal, tracking: Tracking) -> None:
    values = step.values()
    journal.write("step", step=step.number, **values, rows=step.rows, tokens=step.tokens)
    tracking.step(values, step.number)


def _due(every: int | str, step: int, batches: Batches) -> bool:
    """Whether something that is done every so many steps, or every epoch, is done after this one."""
    if every == "epoch":  # a stream does not know its epochs
        every = batches.steps_per_epoch or max(1, batches.total_steps // 10)
    return step % int(every) == 0


def _batches(job: Job) -> Batches:
    train, settings = job.rows.train, job.recipe.training
    if isinstance(train, Rows):
        return HeldBatches(job.features["train"], train.numbers, settings)
    return StreamedBatches(train, job.adapted.task, job.adapted.vocabulary, settings, job.display.warn)


def _sizes(job: Job) -> dict[str, Any]:
    method, head = job.adapted.method_parameters(), job.adapted.head_parameters()
    return {
        "method_parameters": sum(parameter.numel() for parameter in method.values()),
        "head_parameters": sum(parameter.numel() for parameter in head.values()),
        "rows": job.rows.facts.rows,
        "processes": job.accelerator.num_processes,
    }
