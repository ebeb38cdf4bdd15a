"""Entities in IOB2 tags, found and counted by seqeval in its strict mode."""

# Axes: N rows, S statistics.

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np

from adapterkit.metrics.compared import NOTHING, Compared, label_scores
from adapterkit.metrics.resampling import ratio_of

ENTITY_METRICS = {"entity_f1": True, "entity_precision": True, "entity_recall": True}
"""Metric -> whether higher is better."""


def is_iob2(tag: str) -> bool:
    """O, B-type or I-type."""
    return tag == "O" or (tag[:2] in ("B-", "I-") and len(tag) > 2)


def both_tags(tags: Iterable[str]) -> list[str]:
    """The tags, and B- and I- of every type among them."""
    found = set(tags)
    types = {tag[2:] for tag in found if tag != "O"}
    return sorted(found | {f"{place}-{kind}" for place in "BI" for kind in types})


def entities(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """(type, first word, word after the last) of every entity. An I- that no B- of its type opens is none (strict)."""
    if all(tag == "O" for tag in tags):
        return []
    tokens = _seqeval_tokens()
    return [(str(found.tag), int(found.start), int(found.end)) for found in tokens(list(tags)).entities]


def compare_entities(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Compared:
    """Entities of rows, micro-averaged: right ones have the right type, start and end."""
    statistics_NS = np.zeros((len(gold), 3))
    counts = Counter[str](), Counter[str](), Counter[str]()  # of each type: right, gold, answered
    confused: list[tuple[str, str]] = []
    for row, (right, tags) in enumerate(zip(gold, predicted, strict=True)):
        there, found = ({(start, stop): kind for kind, start, stop in entities(one)} for one in (right, tags))
        kinds = [kind for span, kind in there.items() if found.get(span) == kind], there.values(), found.values()
        for place, (count, held) in enumerate(zip(counts, kinds, strict=True)):
            count.update(held)
            statistics_NS[row, place] = len(held)
        confused += [(there.get(span, NOTHING), found.get(span, NOTHING)) for span in {**there, **found}]
    right_N, there_N, found_N = statistics_NS.T
    formulas = {
        "entity_f1": ratio_of(2 * right_N, there_N + found_N),
        "entity_precision": ratio_of(right_N, found_N),
        "entity_recall": ratio_of(right_N, there_N),
    }
    types = sorted({*counts[1], *counts[2]})
    labels = label_scores(types, *([count[kind] for kind in types] for count in counts))
    return Compared(len(gold), formulas, labels, confused=confused)


@cache
def _seqeval_tokens() -> Callable[[list[str]], Any]:
    with warnings.catch_warnings():
        # seqeval reads its own version through a deprecated module when it is imported.
        warnings.simplefilter("ignore")
        from seqeval.scheme import IOB2, Tokens

    return lambda tags: Tokens(tags, IOB2)
