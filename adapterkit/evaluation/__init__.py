"""Evaluation: metrics of an artifact on rows, with intervals."""

from adapterkit.evaluation.comparing import compare
from adapterkit.evaluation.evaluating import evaluate, record_evaluation
from adapterkit.scoring import score

__all__ = ["compare", "evaluate", "record_evaluation", "score"]
