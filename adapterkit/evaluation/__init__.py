"""Evaluation: metrics of an artifact on rows, with intervals."""

from adapterkit.evaluation.evaluating import evaluate
from adapterkit.scoring import score

__all__ = ["evaluate", "score"]
