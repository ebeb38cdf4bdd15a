"""Metrics, from plain numbers and texts. No torch is imported here, and a scoring library only when it scores."""

from adapterkit.metrics.calibration import Calibration, Judged, judged, judged_classes, measure_calibration
from adapterkit.metrics.classification import compare_classes, compare_numbers, compare_sets, compare_words
from adapterkit.metrics.compared import Compared, Groups, LabelScore
from adapterkit.metrics.generated_text import score_generated
from adapterkit.metrics.resampling import Formula, Metric, bootstrap, of_sums, ratio, ratio_of
from adapterkit.metrics.tagged import ENTITY_METRICS, both_tags, compare_entities, entities, is_iob2

__all__ = [
    "ENTITY_METRICS", "Calibration", "Compared", "Formula", "Groups", "Judged", "LabelScore", "Metric", "bootstrap",
    "both_tags", "compare_classes", "compare_entities", "compare_numbers", "compare_sets",
    "compare_words", "entities", "is_iob2", "judged", "judged_classes", "measure_calibration", "of_sums",
    "ratio", "ratio_of", "score_generated",
]  # fmt: skip
