"""Metrics, from plain numbers and texts. No torch is imported here, and a scoring library only when it scores."""

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
from adapterkit.metrics.resampling import Formula, Metric, Statistics, bootstrap, bootstrap_weighted, ratio
from adapterkit.metrics.tagged import ENTITY_METRICS, both_tags, entities, entity_statistics, is_iob2

__all__ = [
    "ENTITY_METRICS",
    "Formula",
    "Metric",
    "Statistics",
    "accuracy",
    "bootstrap",
    "bootstrap_weighted",
    "both_tags",
    "confusion_statistics",
    "entities",
    "entity_statistics",
    "is_iob2",
    "macro_f1",
    "mcc",
    "multi_label",
    "ratio",
    "regression",
    "score_generated",
    "single_label",
]
