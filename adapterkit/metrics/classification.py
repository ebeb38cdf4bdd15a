"""Classes, sets of labels and numbers beside the right ones: accuracy, F1, MCC, Pearson, Spearman, squared error."""

# Axes: N rows, R resamples, C classes or targets, S statistics.

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterkit.metrics.calibration import judged, judged_classes
from adapterkit.metrics.compared import NOTHING, Compared, Groups, label_scores
from adapterkit.metrics.resampling import Numbers, of_sums, ratio, ratio_of

NAMES = {
    "single-label": ("accuracy", "macro_f1", "mcc"),
    "multi-label": ("micro_f1", "macro_f1", "exact_match"),
    "regression": ("pearson", "spearman", "mse"),
}
"""Problem -> its metrics, main one first."""

DIRECTIONS = {name: name != "mse" for names in NAMES.values() for name in names}
"""Metric -> whether higher is better."""


def macro_f1(sums_S: Numbers) -> Any:
    """Mean F1 over the classes that occur, in the answers or in the predictions (scikit-learn's macro average)."""
    right_C, gold_C, predicted_C = np.split(sums_S[..., :-1], 3, axis=-1)
    f1_C = ratio(2 * right_C, gold_C + predicted_C)
    return ratio(f1_C.sum(axis=-1), ((gold_C + predicted_C) > 0).sum(axis=-1))


def mcc(sums_S: Numbers) -> Any:
    """Matthews correlation for any number of classes (Gorodkin 2004); 0 where it is not defined."""
    right_C, gold_C, predicted_C = np.split(sums_S[..., :-1], 3, axis=-1)
    items = sums_S[..., -1]
    covariance = right_C.sum(axis=-1) * items - (gold_C * predicted_C).sum(axis=-1)
    gold = items**2 - (gold_C**2).sum(axis=-1)
    predicted = items**2 - (predicted_C**2).sum(axis=-1)
    return ratio(covariance, np.sqrt(np.maximum(gold * predicted, 0.0)))


def compare_classes(labels: Sequence[str], gold: Sequence[int], probability_NC: Any) -> Compared:
    """Rows with one label each."""
    gold_N, given_N = np.asarray(gold, dtype=np.int64), np.asarray(probability_NC).argmax(axis=1)
    found = _compare_items(labels, len(gold_N), np.arange(len(gold_N)), gold_N, given_N, mcc=mcc)
    return found._replace(judged=judged_classes(probability_NC, gold))


def compare_words(labels: Sequence[str], gold: Sequence[Sequence[str]], given: Sequence[Sequence[str]]) -> Compared:
    """Rows of words with one label each."""
    places = {label: place for place, label in enumerate(labels)}
    gold_I, given_I = (np.array([places[tag] for row in tagged for tag in row], np.int64) for tagged in (gold, given))
    return _compare_items(labels, len(gold), np.repeat(np.arange(len(gold)), [*map(len, gold)]), gold_I, given_I)


def _compare_items(
    labels: Sequence[str], rows: int, row_I: Any, gold_I: Any, given_I: Any, **formulas: Callable[[Numbers], Any]
) -> Compared:
    """Items of rows. Numbers of a row: how often each class is answered rightly, right, and answered; its items."""
    classes = len(labels)
    statistics_NS = np.zeros((rows, 3 * classes + 1))
    np.add.at(statistics_NS, (row_I, gold_I), gold_I == given_I)
    for column_I in (classes + gold_I, 2 * classes + given_I, 3 * classes):
        np.add.at(statistics_NS, (row_I, column_I), 1)
    return Compared(
        rows,
        {
            "accuracy": ratio_of(statistics_NS[:, :classes].sum(axis=1), statistics_NS[:, -1]),
            **{name: of_sums(statistics_NS, formula) for name, formula in {"macro_f1": macro_f1, **formulas}.items()},
        },
        label_scores(labels, *np.split(statistics_NS.sum(axis=0)[:-1], 3)),
        confused=[(labels[right], labels[answered]) for right, answered in zip(gold_I, given_I, strict=True)],
    )


def compare_sets(labels: Sequence[str], gold_NC: Any, probability_NC: Any, threshold: float) -> Compared:
    """Items with any number of labels, each of which is answered where its probability reaches the threshold."""
    gold_NC, probability_NC = np.asarray(gold_NC) > 0, np.asarray(probability_NC)
    given_NC = probability_NC >= threshold
    right_N = (gold_NC == given_NC).all(axis=1)
    both_NC = gold_NC & given_NC
    statistics_NS = np.concatenate([both_NC, gold_NC, given_NC], axis=1)

    def mean_f1(sums_S: Numbers) -> Any:
        both_C, gold_C, given_C = np.split(sums_S, 3, axis=-1)
        return ratio(2 * both_C, gold_C + given_C).mean(axis=-1)

    of_gold_NC = np.maximum(np.where(gold_NC, probability_NC, 1 - probability_NC), np.finfo(np.float64).eps)
    confused = [
        (labels[place] if gold_NC[row, place] else NOTHING, labels[place] if given_NC[row, place] else NOTHING)
        for row, place in np.argwhere(gold_NC | given_NC)
    ]
    return Compared(
        len(right_N),
        {
            "micro_f1": ratio_of(2 * both_NC.sum(axis=1), gold_NC.sum(axis=1) + given_NC.sum(axis=1)),
            "macro_f1": of_sums(statistics_NS, mean_f1),
            "exact_match": ratio_of(right_N),
        },
        label_scores(labels, *np.split(statistics_NS.sum(axis=0), 3)),
        judged(np.maximum(probability_NC, 1 - probability_NC).prod(axis=1), right_N, -np.log(of_gold_NC).sum(axis=1)),
        confused,
    )


def compare_numbers(gold_NC: Any, predicted_NC: Any) -> Compared:
    """Numbers: correlations are means over targets. Rows of one target are grouped by quarters of the right numbers."""
    gold_NC = np.asarray(gold_NC, dtype=np.float64)
    predicted_NC = np.asarray(predicted_NC, dtype=np.float64)
    off_N = np.abs(gold_NC - predicted_NC).mean(axis=1)

    def mean_over_targets(measure: Callable[[Any, Any, Any], Any]) -> Callable[[Numbers], Any]:
        return lambda times_RN: np.mean(
            [
                measure(times_RN, gold_N, predicted_N)
                for gold_N, predicted_N in zip(gold_NC.T, predicted_NC.T, strict=True)
            ],
            axis=0,
        )

    formulas = {
        "pearson": mean_over_targets(_pearson),
        "spearman": mean_over_targets(_spearman),
        "mse": ratio_of(((gold_NC - predicted_NC) ** 2).mean(axis=1)),
    }
    groups = _by_quarter(gold_NC[:, 0], off_N) if gold_NC.shape[1] == 1 and len(gold_NC) else None
    return Compared(len(off_N), formulas, groups=groups, badness=off_N.tolist())


def _by_quarter(gold_N: Numbers, off_N: Numbers) -> Groups:
    edges = np.unique(np.quantile(gold_N, (0, 0.25, 0.5, 0.75, 1)))
    found_N = np.clip(np.searchsorted(edges, gold_N, side="right") - 1, 0, max(0, len(edges) - 2))
    groups = []
    for place in np.unique(found_N):
        inside_N = found_N == place
        name = f"{edges[place]:.4g} to {edges[min(place + 1, len(edges) - 1)]:.4g}"
        groups.append((name, float(off_N[inside_N].mean()), int(inside_N.sum())))
    return Groups("right number", "mean absolute error", groups)


def _pearson(times_RN: Numbers, x_N: Numbers, y_N: Numbers) -> Any:
    """Correlation of x and y, each item taken as many times as `times_RN` says; 0 where one of them is constant."""
    x_N, y_N = x_N - x_N.mean(), y_N - y_N.mean()
    return _correlation(times_RN, np.broadcast_to(x_N, times_RN.shape), np.broadcast_to(y_N, times_RN.shape))


def _spearman(times_RN: Numbers, x_N: Numbers, y_N: Numbers) -> Any:
    """Correlation of the ranks within each resample, ties at their mean rank."""
    return _correlation(times_RN, _ranks(times_RN, x_N), _ranks(times_RN, y_N))


def _ranks(times_RN: Numbers, value_N: Numbers) -> NDArray[np.float64]:
    distinct, place_N = np.unique(value_N, return_inverse=True)
    order_N = np.argsort(place_N, kind="stable")
    starts = np.searchsorted(place_N[order_N], np.arange(len(distinct)))
    count_RU = np.add.reduceat(times_RN[:, order_N], starts, axis=1)
    rank_RU = np.cumsum(count_RU, axis=1) - (count_RU - 1) / 2
    return rank_RU[:, place_N]


def _correlation(times_RN: Numbers, x_RN: Numbers, y_RN: Numbers) -> Any:
    items_R1 = times_RN.sum(axis=1, keepdims=True)
    x_RN = x_RN - (times_RN * x_RN).sum(axis=1, keepdims=True) / items_R1
    y_RN = y_RN - (times_RN * y_RN).sum(axis=1, keepdims=True) / items_R1
    both = (times_RN * x_RN * y_RN).sum(axis=1)
    x, y = (times_RN * x_RN**2).sum(axis=1), (times_RN * y_RN**2).sum(axis=1)
    return ratio(both, np.sqrt(x * y))
