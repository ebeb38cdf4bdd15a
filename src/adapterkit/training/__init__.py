"""Training: one readable loop under Accelerate, from a recipe to an artifact."""

from adapterkit.training.job import output_of
from adapterkit.training.run import Result, train

__all__ = ["Result", "output_of", "train"]
