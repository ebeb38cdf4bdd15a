"""Evaluation: metrics of an artifact on rows, with intervals."""

from adapterkit.evaluation.evaluating import evaluate, record_evaluation
from adapterkit.scoring import score

__all__ = ["evaluate", "record_evaluation", "score"]
