"""Entities in IOB2 tags, found and counted by seqeval in its strict mode."""

# Axes: N rows, S statistics.

import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np

from adapterkit.metrics.resampling import Metric, bootstrap, ratio

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


def entity_statistics(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], resamples: int = 1000, seed: int = 0
) -> dict[str, Metric]:
    """Micro-averaged F1, precision and recall of entities: right ones have the right type, start and end."""
    statistics_NS = np.zeros((len(gold), 3))
    for row, (right, tags) in enumerate(zip(gold, predicted, strict=True)):
        there, found = set(entities(right)), set(entities(tags))
        statistics_NS[row] = (len(there & found), len(there), len(found))
    formulas = {
        "entity_f1": lambda sums_S: ratio(2 * sums_S[..., 0], sums_S[..., 1] + sums_S[..., 2]),
        "entity_precision": lambda sums_S: ratio(sums_S[..., 0], sums_S[..., 2]),
        "entity_recall": lambda sums_S: ratio(sums_S[..., 0], sums_S[..., 1]),
    }
    return bootstrap(statistics_NS, formulas, ENTITY_METRICS, resamples=resamples, seed=seed)


@cache
def _seqeval_tokens() -> Callable[[list[str]], Any]:
    with warnings.catch_warnings():
        # seqeval reads its own version through a deprecated module when it is imported.
        warnings.simplefilter("ignore")
        from seqeval.scheme import IOB2, Tokens

    return lambda tags: Tokens(tags, IOB2)
