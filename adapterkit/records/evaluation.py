"""An artifact on rows: its metrics, each label by itself, and how far its confidence can be trusted."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field

from adapterkit.metrics import LabelScore, Metric
from adapterkit.metrics.calibration import Calibration
from adapterkit.records.record import Answerer, Number, Record, RowsUsed, Values


class MetricRecord(Values):
    """A metric with its 95 % interval, null where it is not defined.

    Attributes:
        how: it was measured, where that follows from the rows; "" for the usual way.
    """

    value: Number
    low: Number
    high: Number
    higher_is_better: bool
    how: str = ""

    @classmethod
    def of(cls, metric: Metric) -> Self:
        """From a metric."""
        return cls(
            value=metric.value,
            low=metric.low,
            high=metric.high,
            higher_is_better=metric.higher_is_better,
            how=metric.how,
        )


class BinRecord(Values):
    """A point of the reliability diagram; see `metrics.calibration.Bin`."""

    low: float
    high: float
    items: int
    confidence: float
    accuracy: float


class CalibrationRecord(Values):
    """Confidence against truth; see `metrics.calibration.Calibration`."""

    items: int
    ece: float
    brier: float
    nll_nats: Number
    confidence: float
    accuracy: float
    bins: tuple[BinRecord, ...]

    @classmethod
    def of(cls, found: Calibration) -> Self:
        """From what was computed."""
        return cls.model_validate(found.to_dict())


class LabelRecord(Values):
    """How well one label is answered; see `metrics.LabelScore`."""

    precision: float
    recall: float
    f1: float
    items: int


class EvaluationRecord(Record):
    """`adapterkit evaluate --json`.

    Attributes:
        answering: what was evaluated.
        data: on what.
        resamples: of the bootstrap behind the intervals.
        metrics: the main one first.
        labels: each label, or type of entity, by itself; {} without labels.
        calibration: of `confidence`; null where answers have none.
    """

    form: Literal["adapterkit.evaluation/1"] = Field("adapterkit.evaluation/1", alias="schema")
    answering: Answerer
    data: RowsUsed
    resamples: int
    metrics: dict[str, MetricRecord]
    labels: dict[str, LabelRecord]
    calibration: CalibrationRecord | None

    @staticmethod
    def of_labels(found: dict[str, LabelScore]) -> dict[str, LabelRecord]:
        """From what was computed."""
        return {label: LabelRecord.model_validate(score._asdict()) for label, score in found.items()}
