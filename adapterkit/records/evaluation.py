"""What each verb that judges artifacts found."""

from typing import Literal, Self

from pydantic import Field

from adapterkit.metrics import Calibration, Metric
from adapterkit.metrics.abstaining import Threshold
from adapterkit.metrics.paired import ChangedSides, Difference, Verdict
from adapterkit.records.record import Answerer, Number, Record, RowsUsed, Values


class MetricRecord(Values):
    """A metric with its 95 % interval, null where it is not defined; see `metrics.Metric`."""

    value: Number
    low: Number
    high: Number
    higher_is_better: bool
    how: str = ""

    @classmethod
    def of(cls, metric: Metric) -> Self:
        """From a metric."""
        return cls(**metric.to_dict())


class EvaluationRecord(Record):
    """`adapterkit evaluate --json`.

    Attributes:
        metrics: the main one first.
        labels: each label, or type of entity, by itself; see `metrics.LabelScore`.
        calibration: of `confidence`; null where answers have none.
    """

    form: Literal["adapterkit.evaluation/1"] = Field("adapterkit.evaluation/1", alias="schema")
    answering: Answerer
    data: RowsUsed
    resamples: int
    metrics: dict[str, MetricRecord]
    labels: dict[str, dict[str, int | float]]
    calibration: Calibration | None


class SliceRecord(Values):
    """The main metric on some of the rows.

    Attributes:
        by: what they have in common: "label", "length", or a column.
        name: the label, the range of lengths, or the column's value.
        rows: how many.
        difference: b - a.
    """

    by: str
    name: str
    rows: int
    difference: Difference


class ComparisonRecord(Record):
    """`adapterkit compare A B --json`.

    Attributes:
        a: the one to compare with.
        b: the one that is judged.
        data: the rows that both can use.
        metric: the main one, which decides.
        verdict: what its interval says of b.
        rows_for_a_point: rows on which a true difference of 0.01 would be shown; null where none is seen, or where the
            metric is no share.
        metrics: every metric's difference.
        sides: null where an answer is neither right nor wrong.
        slices: of the main metric.
        slices_left_out: those with too few rows, or beyond the largest ones.
        false_alarms: how many intervals of slices miss 0 by chance alone, on average, where a and b do not differ.
    """

    form: Literal["adapterkit.comparison/1"] = Field("adapterkit.comparison/1", alias="schema")
    a: Answerer
    b: Answerer
    data: RowsUsed
    resamples: int
    metric: str
    verdict: Verdict
    rows_for_a_point: int | None
    metrics: dict[str, Difference]
    sides: ChangedSides | None
    slices: tuple[SliceRecord, ...]
    slices_left_out: int
    false_alarms: float


class CalibratingRecord(Record):
    """`adapterkit calibrate --json`.

    Attributes:
        answering: the new version; its parent is what was calibrated.
        data: the rows that decided.
        temperature: what logits are divided by.
        before: confidence against truth, of the parent; on the rows that chose the threshold, where there is one.
        after: of the new version, on the same rows.
        threshold: null where every answer is given.
    """

    form: Literal["adapterkit.calibrating/1"] = Field("adapterkit.calibrating/1", alias="schema")
    answering: Answerer
    data: RowsUsed
    temperature: float
    before: Calibration
    after: Calibration
    threshold: Threshold | None


class GainRecord(Values):
    """What one step gains over what stands before it: a head, the representation under it, another backbone, …"""

    name: str
    difference: Difference


class AttributionRecord(Record):
    """`adapterkit attribute --json`.

    Attributes:
        head_alone: the same recipe without its method, on the bare backbone; null between two backbones.
        again: the same recipe on the other backbone; null where there is none.
        metric: the task's main one.
        starts_from: what the first gain is over: "constant answer", "head" where no answer is common, or "artifact"
            where another backbone is what gains.
        gains: in order, each over the one before.
    """

    form: Literal["adapterkit.attribution/1"] = Field("adapterkit.attribution/1", alias="schema")
    answering: Answerer
    head_alone: Answerer | None
    again: Answerer | None
    data: RowsUsed
    resamples: int
    metric: str
    starts_from: str
    gains: tuple[GainRecord, ...]


class TriedRecord(Values):
    """A smaller version that was measured.

    Attributes:
        dropped: share of Σ‖ΔW‖² that it leaves out.
        numbers: in its method and its head.
        difference: of the main metric, over the artifact as it was.
        kept: whether it is the one that was written.
    """

    dropped: float
    numbers: int
    difference: Difference
    kept: bool


class CompactionRecord(Record):
    """`adapterkit compact --json`.

    Attributes:
        answering: the new version; its parent is what was compacted.
        data: the rows that decided.
        metric: the main one.
        tolerance: how much worse it was allowed to become.
        difference: of the metric, on the same rows.
        tried: in the order in which they were measured.
        size_bytes: of all files but the manifest, before and after.
    """

    form: Literal["adapterkit.compaction/1"] = Field("adapterkit.compaction/1", alias="schema")
    answering: Answerer
    data: RowsUsed
    resamples: int
    metric: str
    tolerance: float
    difference: Difference
    tried: tuple[TriedRecord, ...]
    size_bytes: tuple[int, int]
