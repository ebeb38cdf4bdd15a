"""Training: one readable loop under Accelerate, from a recipe to an artifact."""

from adapterkit.training.job import output_of
from adapterkit.training.run import Paused, Result, train

__all__ = ["Paused", "Result", "output_of", "train"]
