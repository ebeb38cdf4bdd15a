"""Trackers through Accelerate: TensorBoard where it is installed, any other by name."""

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

from accelerate import Accelerator
from accelerate.tracking import get_available_trackers

from adapterkit.errors import RecipeError
from adapterkit.recipe import Recipe
from adapterkit.training.standing import by_path

logger = logging.getLogger(__name__)

LEAST_SECONDS = 0.1
"""Between two steps that are told. A tracker writes and flushes, which may take longer than a step over kept states."""


def tracker_names(wanted: Sequence[str] | Literal["auto"]) -> list[str]:
    """The trackers of a run, by Accelerate's names.
    Raises RecipeError: one that Accelerate does not have, or that is not installed."""
    available = [getattr(name, "value", str(name)) for name in get_available_trackers()]
    if wanted == "auto":
        return [name for name in available if name == "tensorboard"]
    missing = [name for name in wanted if name not in available]
    if missing:
        raise RecipeError(
            "not every tracker can be used",
            [f"trackers: found {name!r}, installed are {', '.join(available) or 'none'}" for name in missing],
            "Install it (pip install wandb, mlflow, …), or leave it out.",
        )
    return list(wanted)


class Tracking:
    """Tells a run's trackers what happens. Where they cannot write, the run goes on without them, and says so once."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._told = -math.inf
        self._lost = False

    def begin(self, recipe: Recipe, steps_done: int) -> None:
        """Start the accelerator's trackers, if it has any, with the recipe's fields as the run's configuration.
        `steps_done`: of a run that goes on; TensorBoard drops what it had noted after them."""
        if self._accelerator.log_with:
            flat = {
                path.replace(".", "/"): item if isinstance(item, int | float | str) else str(item)
                for path, item in by_path(recipe.to_dict()).items()
            }
            purge = {"purge_step": steps_done + 1} if steps_done else {}
            with self._spared():
                self._accelerator.init_trackers("trackers", config=flat, init_kwargs={"tensorboard": purge})

    def step(self, values: Mapping[str, float], step: int) -> None:
        """Log the values of a step: of the first one, and then of at most ten a second."""
        now = time.monotonic()
        if now - self._told >= LEAST_SECONDS:
            self._told = now
            self.log({f"train/{name}": value for name, value in values.items()}, step)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log values."""
        if not self._lost:
            with self._spared():
                self._accelerator.log(dict(values), step=step)

    def end(self) -> None:
        """Finish the trackers. Accelerate's own end would part the processes, which may train again."""
        for tracker in () if self._lost else self._accelerator.trackers:
            with self._spared():
                tracker.finish()

    @contextmanager
    def _spared(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._lost:
                place = error.filename or self._accelerator.project_dir
                reason = error.strerror or error
                logger.warning("trackers write nothing more, and training goes on: %s: %s", place, reason)
            self._lost = True
