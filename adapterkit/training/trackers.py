"""Trackers through Accelerate: TensorBoard where it is installed, any other by name."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import get_available_trackers

from adapterkit.errors import RecipeError
from adapterkit.recipe import Recipe, TrainingSettings

LEAST_SECONDS = 0.1
"""Between two steps that are told. A tracker writes and flushes, which may take longer than a step over kept states."""


def tracker_names(settings: TrainingSettings) -> list[str]:
    """The trackers of a run, by Accelerate's names.

    Raises:
        RecipeError: one that Accelerate does not have, or that is not installed.
    """
    available = [getattr(name, "value", str(name)) for name in get_available_trackers()]
    if settings.trackers == "auto":
        return [name for name in available if name == "tensorboard"]
    missing = [name for name in settings.trackers if name not in available]
    if missing:
        raise RecipeError(
            "not every tracker can be used",
            [f"training.trackers: found {name!r}, installed are {', '.join(available) or 'none'}" for name in missing],
            "Install it (pip install wandb, mlflow, …), or leave it out.",
        )
    return list(settings.trackers)


def begin_tracking(accelerator: Accelerator, recipe: Recipe, steps_done: int) -> None:
    """Start the accelerator's trackers, if it has any, with the recipe's fields as the run's configuration.

    Args:
        steps_done: of a run that goes on; TensorBoard drops what it had noted after them.
    """
    if accelerator.log_with:
        flat = dict(_fields(recipe.to_dict()))
        purge = {"purge_step": steps_done + 1} if steps_done else {}
        accelerator.init_trackers("trackers", config=flat, init_kwargs={"tensorboard": purge})


class StepTracking:
    """Tells an accelerator's trackers about steps, the first one and then at most ten a second."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._told = -math.inf

    def tell(self, values: Mapping[str, float], step: int) -> None:
        """Log the values of a step, unless another one was logged just before."""
        now = time.monotonic()
        if now - self._told >= LEAST_SECONDS:
            self._told = now
            self._accelerator.log({f"train/{name}": value for name, value in values.items()}, step=step)


def end_tracking(accelerator: Accelerator) -> None:
    """Finish the accelerator's trackers. Accelerate's own end would part the processes, which may train again."""
    for tracker in accelerator.trackers:
        tracker.finish()


def _fields(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from _fields(item, f"{path}{name}/")
        else:
            yield f"{path}{name}", item if isinstance(item, int | float | str | bool) else str(item)
