"""scikit-learn and seqeval are the second opinions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2
from sklearn.metrics import precision_recall_fscore_support

from adapterkit.metrics import LabelScore, compare_classes, compare_entities, compare_sets

LABELS = ("a", "b", "c")
CLASSES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30)
HOT = st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=20)
TAGS = st.sampled_from(["O", "B-x", "I-x", "B-y", "I-y"])
ROWS = st.lists(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=8), min_size=1, max_size=8)


def agree(found: Mapping[str, LabelScore], expected: tuple[np.ndarray, ...]) -> None:
    for place, score in enumerate(found.values()):
        assert score == pytest.approx(tuple(column[place] for column in expected), abs=1e-12)


@settings(deadline=None)
@given(pairs=CLASSES)
def test_single_labels_are_scored_as_scikit_learn_does(pairs: list[tuple[int, int]]) -> None:
    gold, predicted = ([pair[side] for pair in pairs] for side in (0, 1))
    expected = precision_recall_fscore_support(gold, predicted, labels=[0, 1, 2], zero_division=0)
    agree(compare_classes(LABELS, gold, np.eye(3)[predicted]).labels, expected)


@settings(deadline=None)
@given(rows=HOT)
def test_several_labels_are_scored_as_scikit_learn_does(rows: list[list[bool]]) -> None:
    gold, predicted = np.array(rows)[:, :3], np.array(rows)[:, 3:]
    expected = precision_recall_fscore_support(gold, predicted, labels=[0, 1, 2], average=None, zero_division=0)
    agree(compare_sets(LABELS, gold, predicted, 0.5).labels, expected)


@settings(deadline=None)
@given(rows=ROWS)
@pytest.mark.filterwarnings("ignore")
def test_types_of_entities_are_scored_as_seqeval_does(rows: list[list[tuple[str, str]]]) -> None:
    gold, predicted = ([[pair[side] for pair in row] for row in rows] for side in (0, 1))
    found = compare_entities(gold, predicted).labels
    if not found:
        assert not any(tag.startswith("B") for row in [*gold, *predicted] for tag in row)
        return
    report = classification_report(gold, predicted, mode="strict", scheme=IOB2, output_dict=True, zero_division=0)
    for name, score in found.items():
        theirs = report[name]
        assert score == pytest.approx(
            (theirs["precision"], theirs["recall"], theirs["f1-score"], theirs["support"]), abs=1e-12
        )
