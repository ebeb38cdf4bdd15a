"""Evaluation: metrics of an artifact on rows, with intervals."""

from adapterkit.evaluation.calibrating import calibrate
from adapterkit.evaluation.comparing import compare
from adapterkit.evaluation.evaluating import evaluate, record_evaluation
from adapterkit.evaluation.probing.side_by_side import probe
from adapterkit.evaluation.probing.starting_points import nearest, transfer
from adapterkit.scoring import score

__all__ = ["calibrate", "compare", "evaluate", "nearest", "probe", "record_evaluation", "score", "transfer"]
