"""Training: one readable loop under Accelerate, from a recipe to an artifact."""

from typing import TYPE_CHECKING

from adapterkit.lazy import lazily
from adapterkit.training.standing import check_start, output_of

if TYPE_CHECKING:
    from adapterkit.training.own_loop import build as build
    from adapterkit.training.own_loop import save as save
    from adapterkit.training.run import Paused as Paused
    from adapterkit.training.run import Result as Result
    from adapterkit.training.run import train as train
    from adapterkit.training.trainer import AdapterTrainer as AdapterTrainer

__all__ = ["AdapterTrainer", "Paused", "Result", "build", "check_start", "output_of", "save", "train"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        **dict.fromkeys(("Paused", "Result", "train"), "adapterkit.training.run"),
        **dict.fromkeys(("build", "save"), "adapterkit.training.own_loop"),
        "AdapterTrainer": "adapterkit.training.trainer",
    },
)
