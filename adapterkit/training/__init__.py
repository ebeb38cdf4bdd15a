"""Training: one readable loop under Accelerate, from a recipe to an artifact."""

from typing import TYPE_CHECKING

from adapterkit.lazy import lazily
from adapterkit.training.standing import check_start, output_of

if TYPE_CHECKING:
    from adapterkit.training.run import Paused as Paused
    from adapterkit.training.run import Result as Result
    from adapterkit.training.run import train as train

__all__ = ["Paused", "Result", "check_start", "output_of", "train"]

__getattr__, __dir__ = lazily(__name__, dict.fromkeys(("Paused", "Result", "train"), "adapterkit.training.run"))
