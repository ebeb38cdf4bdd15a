"""Evaluation: metrics of an artifact on rows, with intervals."""

from adapterkit.evaluation.evaluate import evaluate
from adapterkit.evaluation.score import score

__all__ = ["evaluate", "score"]
