"""All that is measured of one layer."""

# Axes: N items, W widths, C classes, G groups.

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterkit.errors import DataError
from adapterkit.evaluation.probing.asked import Drawn
from adapterkit.metrics import representations as measures
from adapterkit.own_folder import keep_text, kept_text

FORMAT = 2
"""Of kept measures; raised whenever a measure changes."""
MAX_BYTES = 1 << 24
MOST_COMPARED = 1500
"""Items of what compares every item with every other, or fits a model many times; drawn by seed."""


OF_CLASSES = ("h_score", "codelength_bits", "information_nats", "silhouette", "alignment")
"""Measures, each the first that is computed together, that need a class for every item."""


@dataclass(frozen=True)
class Measured:
    """The figures of one layer, and why others are not defined. `right` (G,) is what a linear probe got right in each
    row, 1 or 0, or a share of its words; of numbers the variance that it explains. `items` (G,) is how many items the
    row has; of numbers their variance."""

    figures: Mapping[str, float] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    right: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    items: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


def measure(states_NW: NDArray[np.float32], drawn: Drawn, seed: int) -> Measured:
    """Everything that is measured of the states of one layer."""
    few = compared(len(states_NW), seed)
    some_MW, labels_M, labels_N = states_NW[few].astype(np.float64), drawn.labels[few], drawn.labels
    right_G = items_G = np.zeros(0)
    figures: dict[str, float] = {}
    refused: dict[str, str] = {}

    def probed() -> tuple[float]:
        nonlocal right_G, items_G
        right_G, items_G = probe_rows(states_NW, drawn, seed)
        return (float(right_G.sum() / items_G.sum()),)

    def read_near() -> list[float]:
        of_few = drawn if isinstance(few, slice) else drawn.only(few)
        explained_MC, all_MC = explained(measures.near_targets(some_MW, of_few.targets), of_few)
        return [float(explained_MC.sum() / all_MC.sum())]

    def coded() -> tuple[float, float]:
        code = measures.online_codelength(some_MW, labels_M, seed=seed)
        return code.bits_per_item, code.compression

    asked: dict[tuple[str, ...], Callable[[], Sequence[float]]] = {
        ("accuracy",): probed,
        ("knn_accuracy",): lambda: [np.mean(measures.neighbours(some_MW, labels_M) == labels_M)],
        ("logme",): lambda: [measures.logme(states_NW, labels_N)],
        ("h_score",): lambda: [measures.h_score(states_NW, labels_N)],
        ("codelength_bits", "compression"): coded,
        ("information_nats", "information_ceiling_nats"): lambda: measures.label_information(
            states_NW, labels_N, seed=seed
        ),
        ("silhouette", "nmi", "v_measure"): lambda: measures.clusters(some_MW, labels_M, seed=seed),
        ("alignment",): lambda: [measures.alignment(states_NW, labels_N)],
        ("uniformity",): lambda: [measures.uniformity(some_MW)],
        ("anisotropy",): lambda: [measures.anisotropy(states_NW)],
        ("rank_me",): lambda: [measures.rank_me(states_NW)],
    }
    if drawn.targets is not None:
        without = "the rows have numbers, or several labels, and no class each"
        refused = dict.fromkeys((name for names in asked if names[0] in OF_CLASSES for name in names), without)
        asked = {names: compute for names, compute in asked.items() if names[0] not in OF_CLASSES}
        asked["knn_accuracy",] = read_near
        asked["logme",] = lambda: [evidence(states_NW, drawn)]
        asked[tuple(f"explained: {name}" for name in drawn.names)] = lambda: _by_target(states_NW, drawn, seed)
    if drawn.is_choice:
        del asked["knn_accuracy",]  # choices of a question are compared by a score, and neighbours give none
    for names, compute in asked.items():
        try:
            found = dict(zip(names, map(float, compute()), strict=True))
        except DataError as error:
            refused.update(dict.fromkeys(names, "; ".join(error.problems) or error.summary))
            continue
        figures.update({name: value for name, value in found.items() if math.isfinite(value)})
        refused.update(dict.fromkeys(found.keys() - figures.keys(), "no two items share a label"))
    return Measured(figures, refused, right_G, items_G)


def measure_once(states_NW: NDArray[np.float32], drawn: Drawn, seed: int, cache: Path | None) -> Measured:
    """`measure`, or what it has found of the same states, labels and seed before. `states_NW`: of one layer. `drawn`:
    the items. `seed`: of what is drawn and fitted. `cache`: folder of what was found; None keeps nothing."""
    if cache is None:
        return measure(states_NW, drawn, seed)
    libraries = [version(name) for name in ("numpy", "scipy", "scikit-learn")]
    total = hashlib.sha256(json.dumps([FORMAT, seed, drawn.is_choice, libraries]).encode())
    for array in (states_NW, drawn.labels, drawn.groups, *(() if drawn.targets is None else (drawn.targets,))):
        total.update(f"{array.shape} {array.dtype.str}".encode() + np.ascontiguousarray(array).tobytes())
    file = cache / f"{total.hexdigest()}.json"
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        figures, refused, right, items = json.loads(kept_text(file, MAX_BYTES) or "")
        return Measured(dict(figures), dict(refused), np.array(right, float), np.array(items, float))
    found = measure(states_NW, drawn, seed)
    keep_text(file, json.dumps([found.figures, found.refused, found.right.tolist(), found.items.tolist()]))
    return found


def probe_rows(states_NW: NDArray[Any], drawn: Drawn, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a cross-validated linear probe gets right in each row, and of how much. Raises DataError as its measures."""
    if drawn.targets is None:
        return right_by_row(measures.linear_probe(states_NW, drawn.labels, drawn.groups, seed=seed), drawn)
    explained_NC, all_NC = explained(measures.linear_fit(states_NW, drawn.targets, drawn.groups, seed=seed), drawn)
    return explained_NC.sum(axis=1), all_NC.sum(axis=1)


def evidence(states_NW: NDArray[Any], drawn: Drawn) -> float:
    """LogME of classes, or of numbers. Raises DataError as `logme`."""
    if drawn.targets is None:
        return measures.logme(states_NW, drawn.labels)
    return measures.logme_regression(states_NW, drawn.targets)


def explained(scores_NC: NDArray[np.float64], drawn: Drawn) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each item and target, the variance that scores explain, and the variance.

    Their sums over items give R², of several labels the Brier skill score.
    """
    targets_NC = np.asarray(drawn.targets)
    all_NC = (targets_NC - targets_NC.mean(axis=0)) ** 2
    return all_NC - (targets_NC - scores_NC) ** 2, all_NC


def _by_target(states_NW: NDArray[Any], drawn: Drawn, seed: int) -> list[float]:
    explained_NC, all_NC = explained(measures.linear_fit(states_NW, drawn.targets, drawn.groups, seed=seed), drawn)
    return list((explained_NC.sum(axis=0) / all_NC.sum(axis=0)).tolist())


def compared(items: int, seed: int) -> Any:
    """The items that are compared with each other: all of them, or some drawn by seed."""
    if items <= MOST_COMPARED:
        return slice(None)
    return np.sort(np.random.default_rng(seed).choice(items, MOST_COMPARED, replace=False))


def right_by_row(scores_NC: NDArray[np.float64], drawn: Drawn) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What was right in each row, and of how many items."""
    _, place_N = np.unique(drawn.groups, return_inverse=True)
    groups = int(place_N.max()) + 1
    if not drawn.is_choice:
        right_N = scores_NC.argmax(axis=1) == drawn.labels
        right_G, items_G = np.bincount(place_N, right_N, groups), np.bincount(place_N, minlength=groups)
        return right_G.astype(np.float64), items_G.astype(np.float64)
    best_G = np.full(groups, -1)
    for item, place in enumerate(place_N):
        if best_G[place] < 0 or scores_NC[item, 1] > scores_NC[best_G[place], 1]:
            best_G[place] = item
    return (drawn.labels[best_G] == 1).astype(np.float64), np.ones(groups)


def chance(drawn: Drawn) -> float:
    """The accuracy of whoever does not look: of the most frequent class, or of a choice at random; of numbers 0."""
    if drawn.targets is not None:
        return 0.0
    if drawn.is_choice:
        _, count_G = np.unique(drawn.groups, return_counts=True)
        return float((1 / count_G).mean())
    return float(np.bincount(drawn.labels).max() / len(drawn.labels))
