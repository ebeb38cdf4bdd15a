"""Several runs side by side, whose gradients are computed in one batch where a trial says that this pays.

Each run keeps what makes it a run: its rows and their order, its optimizer and schedule, its validations, checkpoints,
journal and end. Only the forward and the backward of a step are shared. In one batch sums are added in another order
and dropout draws other masks, so what is learned is as good, and not the same byte for byte.
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from adapterkit.backbone import Backbone
from adapterkit.errors import DivergedError
from adapterkit.heads.lanes import NoLanesError
from adapterkit.recipe import Recipe
from adapterkit.training.interrupt import Interrupt
from adapterkit.training.run import Paused, Result, Run
from adapterkit.training.together.joint import Joint
from adapterkit.training.trackers import tracker_names
from adapterkit.training.turn import Turn

LEAST_GAIN = 1.05
ROUNDS = 3
"""Of a trial; the fastest counts."""
GRADIENT_TOLERANCE = {torch.float32: 1e-3}
"""How far joint gradients may be from those of each run alone, as a share of their norm; in narrow formats 0.1."""

SHARED = ("precision", "accumulate", "gradient_checkpointing", "cache", "packed", "trackers")
"""What the `training` blocks of companions have in common: how is computed, not what is learned."""
KEEPING_RUNS_APART = {"tensorboard"}
"""Trackers that can follow several runs of one process at the same time."""

Outcome = Result | Paused | DivergedError


@dataclass(frozen=True)
class Together:
    """What runs that were trained side by side gave, each; and whether their gradients were computed in one batch."""

    outcomes: list[Outcome]
    decision: str
    """Why they were, or were not."""
    jointly: bool


def in_companies(recipes: Sequence[Recipe], most: int) -> list[slice]:
    """Runs in their order, cut where the next one cannot be trained beside the ones before, or `most` are reached."""
    begins, shared = [0], list(map(_shared, recipes))
    for place, recipe in enumerate(recipes[1:], start=1):
        followed = KEEPING_RUNS_APART.issuperset(tracker_names(recipe.training.trackers))
        if place - begins[-1] >= most or shared[begins[-1]] != shared[place] or not followed:
            begins.append(place)
    return [slice(*ends) for ends in pairwise([*begins, len(recipes)])] if recipes else []


def _shared(recipe: Recipe) -> str:
    """A recipe without how it learns, and without its seed."""
    content = recipe.to_dict()
    training = {name: content["training"].get(name) for name in SHARED}
    return json.dumps({**content, "output": None, "training": training}, sort_keys=True)


def train_together(
    runs: Sequence[Run],
    interrupt: Interrupt,
    backbone: Backbone,
    decided: Callable[[str], None] = lambda _: None,
    share: Callable[[float], None] = lambda _: None,
) -> Together:
    """Drive runs, whose recipes differ in what `in_companies` lets differ, all to their ends. Raises AdapterkitError: a
    run's, other than that it diverged; the others keep their last checkpoints; KeyboardInterrupt: stopped by the user,
    after every run has written a checkpoint.
    `interrupt`: the one that they were begun with. `backbone`: the one whose twins they are on; it carries no adapter.
    `decided`: told whether gradients are computed in one batch, and why. `share`: told how much is done, from 0 to 1.
    """
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices), ExitStack() as stack:
        members = [_Member(stack.enter_context(closing(run)), interrupt) for run in runs]
        for member in members:
            member.advance()
        waiting = [member for member in members if member.turn is not None]
        found = _joint(waiting, backbone)
        joint, decision = (None, found) if isinstance(found, str) else found
        decided(decision)
        numbers = {id(member): number for number, member in enumerate(waiting)}
        while waiting:
            _compute(joint, [(numbers[id(member)], member) for member in waiting])
            for member in waiting:
                member.advance()
            waiting = [member for member in waiting if member.turn is not None]
            if waiting:
                share(sum(member.share for member in members) / len(members))
        if any(member.stopped for member in members):
            raise KeyboardInterrupt
        return Together([member.outcome for member in members], decision, joint is not None)


class _Member:
    """A run: the turn whose gradients it waits for, None once it has ended; its outcome; and whether the user stopped
    it."""

    def __init__(self, run: Run, interrupt: Interrupt) -> None:
        self.turn: Turn | None = None
        self.outcome: Any = None
        self.stopped = False
        self._run, self._interrupt = run, interrupt

    @property
    def share(self) -> float:
        """How much of the run is done."""
        return 1.0 if self.turn is None else (self.turn.number - 1) / self.turn.learning.batches.total_steps

    def advance(self) -> None:
        """Finish the step at hand, and go on to the next one or to the end."""
        self.turn = None
        try:
            self.turn = next(self._run)
        except StopIteration as end:
            self.outcome = end.value
        except (Paused, DivergedError) as error:
            self.outcome = error
        except KeyboardInterrupt:
            if self._interrupt.insisted or not self._interrupt.asked:
                raise
            self.stopped = True


def _compute(joint: Joint | None, waiting: Sequence[tuple[int, _Member]]) -> None:
    """The gradients of one step of each run."""
    turns = [(number, member.turn) for number, member in waiting if member.turn is not None]
    if joint is not None and len(turns) > 1:
        torch.manual_seed(sum(turn.seed for _, turn in turns) % 2**63)
        try:
            joint.compute(turns)
            return
        except NoLanesError:
            for _, turn in turns:
                turn.forget()
    for _, turn in turns:
        turn.compute()


def _joint(members: Sequence[_Member], backbone: Backbone) -> tuple[Joint, str] | str:
    """What computes the gradients of all, and how much faster; or why nothing does."""
    turns = [member.turn for member in members if member.turn is not None]
    if len(turns) < 2:
        return "one after another: only one run is left"
    runs = [turn.learning for turn in turns]
    if any(run.settings.accumulate > 1 for run in runs):
        return "one after another: training.accumulate cuts batches for want of memory"
    if any(run.objective is not None for run in runs):
        return "one after another: training.objective looks at one run's rows"
    try:
        adapters, settings = [run.adapted for run in runs], runs[0].settings
        joint = Joint(backbone, adapters, gradient_checkpointing=settings.gradient_checkpointing)
        return _tried(joint, turns)
    except NoLanesError as error:
        return f"one after another: {error} cannot be trained in one batch"
    except torch.OutOfMemoryError:
        return f"one after another: the memory does not hold {len(turns)} batches"
    finally:
        for turn in turns:
            turn.forget()


def _tried(joint: Joint, turns: Sequence[Turn]) -> tuple[Joint, str] | str:
    """Compare gradients, then times."""

    def one_by_one() -> None:
        for turn in turns:
            turn.compute()

    at_once = partial(joint.compute, list(enumerate(turns)))
    with joint.without_dropout():
        expected, found = _gradients(one_by_one, turns), _gradients(at_once, turns)
    tolerance = GRADIENT_TOLERANCE.get(turns[0].learning.adapted.compute_dtype, 0.1)
    for one, other in zip(expected, found, strict=True):
        if not float((one - other).norm()) <= tolerance * float(one.norm()):
            raise NoLanesError("this model, whose gradients are others there,")
    seconds: dict[Callable[[], None], list[float]] = {one_by_one: [], at_once: []}
    for _ in range(ROUNDS):
        for way, spent in seconds.items():
            started = time.perf_counter()
            _gradients(way, turns)  # read, so that a device has computed them
            spent.append(time.perf_counter() - started)
    gain = min(seconds[one_by_one]) / min(seconds[at_once])
    if gain < LEAST_GAIN:
        return f"one after another: in one batch {len(turns)} steps take {1 / gain:.2f} of the time"
    return joint, f"{len(turns)} in one batch, {gain:.1f} times as fast as one after another"


def _gradients(compute: Callable[[], None], turns: Sequence[Turn]) -> list[Tensor]:
    """Each step's gradient as one vector; nothing of it is left."""
    compute()
    found = []
    for turn in turns:
        parameters = turn.learning.learner.parameters.values()
        found.append(torch.cat([p.grad.float().flatten() for p in parameters if p.grad is not None]).cpu())
        turn.forget()
    return found
