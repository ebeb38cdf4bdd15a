"""One method under several heads, trained in one run: every step learns from one task, drawn by its size.

A step's gradient is zero for the heads of all other tasks, so that together they descend on Σ p·L, where p is how often
a task is drawn: p ∝ n^(1/T) of n rows at a temperature T (Raffel et al. 2020, section 3.5.2).
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from adapterkit.adapted import Adapted, build
from adapterkit.artifact import read_parts
from adapterkit.backbone import Backbone
from adapterkit.errors import DeviceError, RecipeError
from adapterkit.heads import build_head, resolve
from adapterkit.recipe import Recipe
from adapterkit.training.batches import HeldBatches
from adapterkit.training.checkpoint import load_checkpoint, remove_checkpoint, save_checkpoint
from adapterkit.training.datasets import RecipeRows, read_recipe_rows
from adapterkit.training.environment import check_device, compute_dtype, make_accelerator
from adapterkit.training.finishing import finish
from adapterkit.training.interrupt import Interrupt
from adapterkit.training.job import Job, encode_splits
from adapterkit.training.joint_recipes import joint_problems
from adapterkit.training.journal import Journal
from adapterkit.training.learner import make_learner
from adapterkit.training.run import Result
from adapterkit.training.run_display import RunDisplay
from adapterkit.training.standing import RUN_FOLDER, Position, begin, check_start
from adapterkit.training.trackers import Tracking
from adapterkit.training.turn import Learning, Turn


def train_jointly(
    recipes: Mapping[str, Recipe],
    outputs: Mapping[str, Path],
    backbone: Backbone,
    *,
    temperature: float = 1.0,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Result]:
    """Train one method with a head for each task, and write an artifact for each, with the same method in all of them.

    Args:
        recipes: task -> its recipe; see `joint_problems` for what they share.
        outputs: task -> folder of its artifact. The first one's holds journal and checkpoint of the run.
        temperature: 1 draws tasks by their rows; higher, small tasks more often.

    Raises:
        RecipeError: the recipes do not make one run, or their heads do not stand on one trunk.
        AdapterkitError: as of `train`.
        KeyboardInterrupt: stopped by the user, after a checkpoint was written.
    """
    if problems := joint_problems(recipes):
        raise RecipeError("these recipes cannot be trained as one run", problems)
    for place, output in enumerate(outputs.values()):
        check_start(output, resume=resume and place == 0, overwrite=overwrite or resume)
    names = list(recipes)
    accelerator = make_accelerator(recipes[names[0]], outputs[names[0]] / RUN_FOLDER)
    if accelerator.num_processes > 1:
        raise DeviceError("tasks are trained jointly in one process", remedy="Start it without a launcher.")
    check_device(backbone, accelerator)
    devices = list(range(torch.cuda.device_count()))
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices))
        display = stack.enter_context(RunDisplay(quiet=quiet))
        rows = {name: read_recipe_rows(recipe) for name, recipe in recipes.items()}
        adapters = _adapters(recipes, rows, backbone, stack)
        tracking, jobs = Tracking(accelerator), {}
        for name, adapted in adapters.items():
            adapted.compute_dtype = compute_dtype(recipes[name], backbone)
            own = (recipes[name], rows[name], encode_splits(rows[name], adapted, display), adapted)
            jobs[name] = Job(*own, accelerator, None, display, tracking, outputs[name])
        try:
            return _run(jobs, temperature, resume=resume, overwrite=overwrite)
        finally:
            tracking.end()


def _adapters(
    recipes: Mapping[str, Recipe], rows: Mapping[str, RecipeRows], backbone: Backbone, stack: ExitStack
) -> dict[str, Adapted]:
    """An adapter for each task: the first one's method and trunk, and a head of its own."""
    names = list(recipes)
    seed, method = recipes[names[0]].training.seed, recipes[names[0]].method
    parts = read_parts(method, backbone)
    first = stack.enter_context(build(backbone, rows[names[0]].task, method, recipes[names[0]].head, seed, parts=parts))
    shared = first.method_parameters()
    paths = _paths(first.module, shared)
    found = {names[0]: first}
    problems = []
    for name in names[1:]:
        task, head = rows[name].task, recipes[name].head
        headed = build_head(first.backbone, task.kind, task.classes, head, seed=seed)
        for parameter in shared.values():
            parameter.requires_grad_(True)  # a head freezes all of the trunk that it is put on
        if _paths(headed.module, shared) != paths:
            problems.append(f"{name}: its head stands on other modules of the backbone than that of {names[0]}")
        head = resolve(backbone, task.kind, head)
        found[name] = Adapted(first.backbone, task, method, head, headed, first.attachment, first.parts).eval()
    if problems:
        raise RecipeError("these tasks cannot share a method", problems)
    return found


def _paths(module: nn.Module, parameters: Mapping[str, nn.Parameter]) -> set[str]:
    wanted = {id(parameter) for parameter in parameters.values()}
    return {path for path, parameter in module.named_parameters() if id(parameter) in wanted}


def _run(jobs: Mapping[str, Job], temperature: float, *, resume: bool, overwrite: bool) -> dict[str, Result]:
    names = list(jobs)
    job = jobs[names[0]]
    settings = job.recipe.training
    made_of: dict[str, Any] = {"temperature": temperature, **{name: one.made_of() for name, one in jobs.items()}}
    defaults = {name: one.recipe.defaults() for name, one in jobs.items()}
    progress = begin(job.checkpoint, made_of, resume=resume, overwrite=overwrite, defaults=defaults)
    batches = {
        name: HeldBatches(one.features["train"], one.held_rows().numbers, one.recipe.training)
        for name, one in jobs.items()
    }
    total = sum(one.total_steps for one in batches.values())
    heads = {
        f"{name}/{path}": parameter
        for name in names[1:]
        for path, parameter in jobs[name].adapted.head_parameters().items()
    }
    learner = make_learner(job.adapted, settings, total, done=progress.steps, beside=heads)
    job.adapted.checkpoint_layers(settings.gradient_checkpointing)
    if resume:
        load_checkpoint(job.checkpoint, learner, {})
    else:
        remove_checkpoint(job.checkpoint)
    drawn = _drawn([len(one.features["train"]) for one in jobs.values()], total, temperature, settings.seed)
    learnings = {}
    for name, one in jobs.items():
        own = one.recipe.training
        weights = one.adapted.task.class_weights(own.class_weights, one.held_rows())
        weighted = None if weights is None else torch.tensor(weights, device=one.adapted.backbone.device)
        learnings[name] = Learning(one.adapted, batches[name], learner, own, one.accelerator, weighted)
    readers = {}
    for place, name in enumerate(names):
        reader = readers[name] = batches[name].after(Position())
        for _ in range(int((drawn[: progress.steps] == place).sum())):
            next(reader)
    shares = ", ".join(f"{name} {(drawn == place).mean():.0%}" for place, name in enumerate(names))
    job.display.say(f"{len(names)} tasks in {total:,} steps, drawn: {shares}; the last state is kept")
    every = settings.checkpoint_every if isinstance(settings.checkpoint_every, int) else max(1, total // 10)
    with Journal(job.folder / "journal.jsonl", resume_after=progress.steps if resume else None) as journal:
        journal.write("begin", step=progress.steps, total_steps=total, tasks=names)
        job.display.begin(total, progress.steps)
        with Interrupt() as interrupt:
            for number in range(progress.steps + 1, total + 1):
                name = names[int(drawn[number - 1])]
                jobs[name].adapted.train()
                after, features = next(readers[name])
                step = Turn(learnings[name], number, after, features).take()
                progress.steps = number
                journal.write("step", step=number, task=name, **step.values(), rows=step.rows, tokens=step.tokens)
                job.display.step(step, None)
                stopped = interrupt.wished(job.accelerator)
                if stopped or number == total or number % every == 0:
                    save_checkpoint(job.checkpoint, progress, learner, None, job.accelerator)
                if stopped:
                    raise KeyboardInterrupt
        job.display.finish()
        found = {}
        for name in reversed(names):  # the first one's checkpoint goes with its artifact
            one = jobs[name]
            one.adapted.eval()
            found[name] = Result(one.output, finish(one, None, total, journal, overwrite=overwrite or resume), total)
    return {name: found[name] for name in names}


def _drawn(rows: list[int], steps: int, temperature: float, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(steps,): whose turn it is at each."""
    share = np.asarray(rows, dtype=np.float64) ** (1 / temperature)
    return np.random.default_rng(seed).choice(len(rows), size=steps, p=share / share.sum())
