"""Metrics, from plain numbers and texts. No torch is imported here, and a scoring library only when it scores."""

from adapterkit.metrics.calibration import Calibration, Judged, judged, judged_classes, measure_calibration
from adapterkit.metrics.classification import (
    accuracy,
    confusion_statistics,
    macro_f1,
    mcc,
    multi_label,
    regression,
    single_label,
)
from adapterkit.metrics.generated_text import score_generated
from adapterkit.metrics.per_label import LabelScore, entity_scores, multi_label_scores, single_label_scores
from adapterkit.metrics.resampling import Formula, Metric, Statistics, bootstrap, bootstrap_weighted, ratio
from adapterkit.metrics.tagged import ENTITY_METRICS, both_tags, entities, entity_statistics, is_iob2

__all__ = [
    "ENTITY_METRICS", "Calibration", "Formula", "Judged", "LabelScore", "Metric", "Statistics", "accuracy", "bootstrap",
    "bootstrap_weighted", "both_tags", "confusion_statistics", "entities", "entity_scores", "entity_statistics",
    "is_iob2", "judged", "judged_classes", "macro_f1", "mcc", "measure_calibration", "multi_label",
    "multi_label_scores", "ratio", "regression", "score_generated", "single_label", "single_label_scores",
]  # fmt: skip
