"""Runs that are trained side by side: which can be, how they are driven, and how one batch serves them all."""

from adapterkit.training.together.driving import Outcome, Together, in_companies, train_together

__all__ = ["Outcome", "Together", "in_companies", "train_together"]
