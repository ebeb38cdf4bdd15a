"""Precision, recall and F1 of every label by itself."""

# Axes: C labels.

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from adapterkit.metrics.classification import confusion_statistics
from adapterkit.metrics.resampling import ratio
from adapterkit.metrics.tagged import entities


class LabelScore(NamedTuple):
    """How well one label is answered.

    Attributes:
        precision: of the answers with the label, the right ones.
        recall: of the items that have it, those that were answered so.
        f1: their harmonic mean. Each of the three is 0 where there is nothing to divide by.
        items: how many have it: rows, words or entities.
    """

    precision: float
    recall: float
    f1: float
    items: int


def single_label_scores(labels: Sequence[str], gold: Sequence[int], predicted: Sequence[int]) -> dict[str, LabelScore]:
    """Of items with one label each."""
    counts_S = confusion_statistics(gold, predicted, len(labels))
    return _scores(labels, *np.split(counts_S[:-1], 3))


def multi_label_scores(labels: Sequence[str], gold_NC: Any, predicted_NC: Any) -> dict[str, LabelScore]:
    """Of items with any number of labels, a 0 or 1 for each."""
    gold_NC, predicted_NC = np.asarray(gold_NC) > 0, np.asarray(predicted_NC) > 0
    return _scores(labels, (gold_NC & predicted_NC).sum(axis=0), gold_NC.sum(axis=0), predicted_NC.sum(axis=0))


def entity_scores(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, LabelScore]:
    """Of entities in IOB2 tags, by type: right ones have the right start and end."""
    right, there, found = Counter[str](), Counter[str](), Counter[str]()
    for tags, answered in zip(gold, predicted, strict=True):
        ours, theirs = set(entities(tags)), set(entities(answered))
        for count, kept in ((right, ours & theirs), (there, ours), (found, theirs)):
            count.update(kind for kind, _, _ in kept)
    types = sorted({*there, *found})
    return _scores(types, *([count[kind] for kind in types] for count in (right, there, found)))


def _scores(labels: Sequence[str], right_C: Any, gold_C: Any, predicted_C: Any) -> dict[str, LabelScore]:
    right_C, gold_C, predicted_C = (np.asarray(count, dtype=np.float64) for count in (right_C, gold_C, predicted_C))
    precision_C, recall_C = ratio(right_C, predicted_C), ratio(right_C, gold_C)
    f1_C = ratio(2 * right_C, gold_C + predicted_C)
    return {
        label: LabelScore(float(precision_C[c]), float(recall_C[c]), float(f1_C[c]), int(gold_C[c]))
        for c, label in enumerate(labels)
    }
