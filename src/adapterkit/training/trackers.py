"""Trackers through Accelerate: TensorBoard where it is installed, any other by name."""

from __future__ import annotations

from accelerate.tracking import get_available_trackers

from adapterkit.errors import RecipeError
from adapterkit.recipe import TrainingSettings


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
