"""Accuracy, F1, MCC, Pearson, Spearman and squared error, each with its interval."""

# Axes: N rows, R resamples, C classes or targets, S statistics.

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterkit.metrics.resampling import Metric, Statistics, bootstrap, bootstrap_weighted, ratio

NAMES = {
    "single-label": ("accuracy", "macro_f1", "mcc"),
    "multi-label": ("micro_f1", "macro_f1", "exact_match"),
    "regression": ("pearson", "spearman", "mse"),
}
"""Problem -> its metrics, main one first."""

DIRECTIONS = {name: name != "mse" for names in NAMES.values() for name in names}
"""Metric -> whether higher is better."""


def confusion_statistics(gold: Sequence[int], predicted: Sequence[int], classes: int) -> Statistics:
    """(3C + 1,) of some items: right, gold and predicted counts of every class, and the number of items."""
    gold_N, predicted_N = np.asarray(gold, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    right = np.bincount(gold_N[gold_N == predicted_N], minlength=classes)
    counts = [right, np.bincount(gold_N, minlength=classes), np.bincount(predicted_N, minlength=classes)]
    return np.concatenate([*counts, [len(gold_N)]]).astype(np.float64)


def accuracy(sums_S: Statistics) -> Any:
    """Right items / items."""
    classes = (sums_S.shape[-1] - 1) // 3
    return ratio(sums_S[..., :classes].sum(axis=-1), sums_S[..., -1])


def macro_f1(sums_S: Statistics) -> Any:
    """Mean F1 over the classes that occur, in the answers or in the predictions (scikit-learn's macro average)."""
    right_C, gold_C, predicted_C = np.split(sums_S[..., :-1], 3, axis=-1)
    f1_C = ratio(2 * right_C, gold_C + predicted_C)
    return ratio(f1_C.sum(axis=-1), ((gold_C + predicted_C) > 0).sum(axis=-1))


def mcc(sums_S: Statistics) -> Any:
    """Matthews correlation for any number of classes (Gorodkin 2004); 0 where it is not defined."""
    right_C, gold_C, predicted_C = np.split(sums_S[..., :-1], 3, axis=-1)
    items = sums_S[..., -1]
    covariance = right_C.sum(axis=-1) * items - (gold_C * predicted_C).sum(axis=-1)
    gold = items**2 - (gold_C**2).sum(axis=-1)
    predicted = items**2 - (predicted_C**2).sum(axis=-1)
    return ratio(covariance, np.sqrt(np.maximum(gold * predicted, 0.0)))


def single_label(
    gold: Sequence[int], predicted: Any, classes: int, resamples: int = 1000, seed: int = 0
) -> dict[str, Metric]:
    """Accuracy, macro F1 and MCC."""
    gold_N, predicted_N = np.asarray(gold, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    rows_N = np.arange(len(gold_N))
    statistics_NS = np.zeros((len(gold_N), 3 * classes + 1))
    statistics_NS[rows_N, gold_N] = gold_N == predicted_N
    statistics_NS[rows_N, classes + gold_N] = 1
    statistics_NS[rows_N, 2 * classes + predicted_N] = 1
    statistics_NS[:, -1] = 1
    formulas = {"accuracy": accuracy, "macro_f1": macro_f1, "mcc": mcc}
    return bootstrap(statistics_NS, formulas, DIRECTIONS, resamples=resamples, seed=seed)


def multi_label(gold_NC: Any, predicted_NC: Any, resamples: int = 1000, seed: int = 0) -> dict[str, Metric]:
    """Micro F1, macro F1 over all labels, and the share of rows whose labels are all right."""
    gold_NC, predicted_NC = np.asarray(gold_NC) > 0, np.asarray(predicted_NC) > 0
    exact_N1 = (gold_NC == predicted_NC).all(axis=1, keepdims=True)
    statistics_NS = np.concatenate(
        [gold_NC & predicted_NC, gold_NC, predicted_NC, exact_N1, np.ones_like(exact_N1)], axis=1
    )
    classes = gold_NC.shape[1]

    def counts(sums_S: Statistics) -> tuple[Statistics, Statistics]:
        return 2 * sums_S[..., :classes], sums_S[..., classes : 2 * classes] + sums_S[..., 2 * classes : 3 * classes]

    def micro(sums_S: Statistics) -> Any:
        twice_right_C, both_C = counts(sums_S)
        return ratio(twice_right_C.sum(axis=-1), both_C.sum(axis=-1))

    formulas = {
        "micro_f1": micro,
        "macro_f1": lambda sums_S: ratio(*counts(sums_S)).mean(axis=-1),
        "exact_match": lambda sums_S: ratio(sums_S[..., -2], sums_S[..., -1]),
    }
    return bootstrap(statistics_NS, formulas, DIRECTIONS, resamples=resamples, seed=seed)


def regression(gold_NC: Any, predicted_NC: Any, resamples: int = 1000, seed: int = 0) -> dict[str, Metric]:
    """Pearson and Spearman correlation, mean over targets, and mean squared error."""
    gold_NC = np.asarray(gold_NC, dtype=np.float64)
    predicted_NC = np.asarray(predicted_NC, dtype=np.float64)
    targets = range(gold_NC.shape[1])

    def mean_over_targets(measure: Callable[[Any, Any, Any], Any]) -> Callable[[Statistics], Any]:
        return lambda times_RN: np.mean(
            [measure(times_RN, gold_NC[:, target], predicted_NC[:, target]) for target in targets], axis=0
        )

    error_N = ((gold_NC - predicted_NC) ** 2).mean(axis=1)
    formulas = {
        "pearson": mean_over_targets(_pearson),
        "spearman": mean_over_targets(_spearman),
        "mse": lambda times_RN: times_RN @ error_N / times_RN.sum(axis=-1),
    }
    return bootstrap_weighted(len(gold_NC), formulas, DIRECTIONS, resamples=resamples, seed=seed)


def _pearson(times_RN: Statistics, x_N: Statistics, y_N: Statistics) -> Any:
    """Correlation of x and y, each item taken as many times as `times_RN` says; 0 where one of them is constant."""
    x_N, y_N = x_N - x_N.mean(), y_N - y_N.mean()
    return _correlation(times_RN, np.broadcast_to(x_N, times_RN.shape), np.broadcast_to(y_N, times_RN.shape))


def _spearman(times_RN: Statistics, x_N: Statistics, y_N: Statistics) -> Any:
    """Correlation of the ranks within each resample, ties at their mean rank."""
    return _correlation(times_RN, _ranks(times_RN, x_N), _ranks(times_RN, y_N))


def _ranks(times_RN: Statistics, value_N: Statistics) -> NDArray[np.float64]:
    distinct, place_N = np.unique(value_N, return_inverse=True)
    order_N = np.argsort(place_N, kind="stable")
    starts = np.searchsorted(place_N[order_N], np.arange(len(distinct)))
    count_RU = np.add.reduceat(times_RN[:, order_N], starts, axis=1)
    rank_RU = np.cumsum(count_RU, axis=1) - (count_RU - 1) / 2
    return rank_RU[:, place_N]


def _correlation(times_RN: Statistics, x_RN: Statistics, y_RN: Statistics) -> Any:
    items_R1 = times_RN.sum(axis=1, keepdims=True)
    x_RN = x_RN - (times_RN * x_RN).sum(axis=1, keepdims=True) / items_R1
    y_RN = y_RN - (times_RN * y_RN).sum(axis=1, keepdims=True) / items_R1
    both = (times_RN * x_RN * y_RN).sum(axis=1)
    x, y = (times_RN * x_RN**2).sum(axis=1), (times_RN * y_RN**2).sum(axis=1)
    return ratio(both, np.sqrt(x * y))
