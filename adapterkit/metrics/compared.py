"""Answers beside what is right: what every figure about them is made of."""

# Axes: N rows, C labels.

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from adapterkit.metrics.calibration import Judged
from adapterkit.metrics.resampling import Formula, ratio

NOTHING = "–"
"""What stands for no label among labels."""


class LabelScore(NamedTuple):
    """How well one label is answered; 0 where there is nothing to divide by. `items`: how many have it: rows, words or
    entities."""

    precision: float
    recall: float
    f1: float
    items: int


class Groups(NamedTuple):
    """Rows told apart: by what, what their figure is, and (name, figure, rows) of each group."""

    by: str
    measure: str
    rows: Sequence[tuple[str, float, int]]


class Compared(NamedTuple):
    """The answers to some rows beside the right ones.

    Attributes:
        items: how many a bootstrap draws from: rows, or pieces of long texts.
        formulas: metric -> as `bootstrap` asks for it, the main one first.
        labels: how well each label, or type of entity, is answered; {} without labels.
        judged: how sure each row's answer was, and whether it was right as a whole. None where answers are numbers or
            generated texts: no probability is given to them.
        confused: (right label, answered label) of every item, `NOTHING` where there is none.
        groups: rows that are answered better or worse; None where labels tell them apart.
        badness: of every row, 0 for right ones; () where `judged` tells it.
    """

    items: int
    formulas: Mapping[str, Formula]
    labels: Mapping[str, LabelScore] = {}
    judged: Judged | None = None
    confused: Sequence[tuple[str, str]] = ()
    groups: Groups | None = None
    badness: Sequence[float] = ()


def label_scores(labels: Sequence[str], right_C: Any, gold_C: Any, predicted_C: Any) -> dict[str, LabelScore]:
    """Every label by itself, from how often it is answered rightly, right, and answered."""
    right_C, gold_C, predicted_C = (np.asarray(count, dtype=np.float64) for count in (right_C, gold_C, predicted_C))
    precision_C, recall_C = ratio(right_C, predicted_C), ratio(right_C, gold_C)
    f1_C = ratio(2 * right_C, gold_C + predicted_C)
    return {
        label: LabelScore(float(precision_C[c]), float(recall_C[c]), float(f1_C[c]), int(gold_C[c]))
        for c, label in enumerate(labels)
    }
