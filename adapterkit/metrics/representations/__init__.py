"""Measures of a representation: rows of numbers, and what they say of labels. No torch."""

from adapterkit.metrics.representations.checking import LEAST_ITEMS, Floats, Labels
from adapterkit.metrics.representations.geometry import alignment, anisotropy, debiased_cka, rank_me, uniformity
from adapterkit.metrics.representations.information import Codelength, info_nce, label_information, online_codelength
from adapterkit.metrics.representations.separability import (
    Clusters,
    clusters,
    linear_fit,
    linear_probe,
    near_targets,
    neighbours,
)
from adapterkit.metrics.representations.transferability import h_score, logme, logme_regression

__all__ = [
    "LEAST_ITEMS", "Clusters", "Codelength", "Floats", "Labels", "alignment", "anisotropy", "clusters", "debiased_cka",
    "h_score", "info_nce", "label_information", "linear_fit", "linear_probe", "logme", "logme_regression",
    "near_targets", "neighbours", "online_codelength", "rank_me", "uniformity",
]  # fmt: skip
