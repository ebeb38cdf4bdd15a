"""What each verb that judges artifacts found."""

from typing import Literal

from pydantic import ConfigDict, Field

from adapterkit.metrics import Calibration
from adapterkit.metrics.abstaining import Threshold
from adapterkit.metrics.paired import ChangedSides, Difference, Verdict
from adapterkit.records.record import Answerer, Number, Record, RowsUsed, Values


class MetricRecord(Values):
    """A metric with its 95 % interval, null where it is not defined; a `metrics.Metric` may be given for it."""

    model_config = ConfigDict(from_attributes=True)

    value: Number
    low: Number
    high: Number
    higher_is_better: bool
    how: str = ""


class EvaluationRecord(Record):
    """`adapterkit evaluate --json`."""

    form: Literal["adapterkit.evaluation/1"] = Field("adapterkit.evaluation/1", alias="schema")
    answering: Answerer
    data: RowsUsed
    resamples: int
    metrics: dict[str, MetricRecord]
    """The main one first."""
    labels: dict[str, dict[str, int | float]]
    """Each label, or type of entity, by itself; see `metrics.LabelScore`."""
    calibration: Calibration | None
    """Of `confidence`; null where answers have none."""


class SliceRecord(Values):
    """The main metric on some of the rows."""

    by: str
    """What they have in common: "label", "length", or a column."""
    name: str
    """The label, the range of lengths, or the column's value."""
    rows: int
    """How many."""
    difference: Difference
    """B - a."""


class ComparisonRecord(Record):
    """`adapterkit compare A B --json`."""

    form: Literal["adapterkit.comparison/1"] = Field("adapterkit.comparison/1", alias="schema")
    a: Answerer
    """The one to compare with."""
    b: Answerer
    """The one that is judged."""
    data: RowsUsed
    """The rows that both can use."""
    resamples: int
    metric: str
    """The main one, which decides."""
    verdict: Verdict
    """What its interval says of b."""
    rows_for_a_point: int | None
    """Rows on which a true difference of 0.01 would be shown; null where none is seen, or where the metric is no
    share."""
    metrics: dict[str, Difference]
    """Every metric's difference."""
    sides: ChangedSides | None
    """Null where an answer is neither right nor wrong."""
    slices: tuple[SliceRecord, ...]
    """Of the main metric."""
    slices_left_out: int
    """Those with too few rows, or beyond the largest ones."""
    false_alarms: float
    """How many intervals of slices miss 0 by chance alone, on average, where a and b do not differ."""


class CalibratingRecord(Record):
    """`adapterkit calibrate --json`."""

    form: Literal["adapterkit.calibrating/1"] = Field("adapterkit.calibrating/1", alias="schema")
    answering: Answerer
    """The new version; its parent is what was calibrated."""
    data: RowsUsed
    """The rows that decided."""
    temperature: float
    """What logits are divided by."""
    before: Calibration
    """Confidence against truth, of the parent; on the rows that chose the threshold, where there is one."""
    after: Calibration
    """Of the new version, on the same rows."""
    threshold: Threshold | None
    """Null where every answer is given."""


class GainRecord(Values):
    """What one step gains over what stands before it: a head, the representation under it, another backbone, …"""

    name: str
    difference: Difference


class AttributionRecord(Record):
    """`adapterkit attribute --json`."""

    form: Literal["adapterkit.attribution/1"] = Field("adapterkit.attribution/1", alias="schema")
    answering: Answerer
    head_alone: Answerer | None
    """The same recipe without its method, on the bare backbone; null between two backbones."""
    again: Answerer | None
    """The same recipe on the other backbone; null where there is none."""
    data: RowsUsed
    resamples: int
    metric: str
    """The task's main one."""
    starts_from: str
    """What the first gain is over: "constant answer", "head" where no answer is common, or "artifact" where another
    backbone is what gains."""
    gains: tuple[GainRecord, ...]
    """In order, each over the one before."""


class TriedRecord(Values):
    """A smaller version that was measured."""

    dropped: float
    """Share of Σ‖ΔW‖² that it leaves out."""
    numbers: int
    """In its method and its head."""
    difference: Difference
    """Of the main metric, over the artifact as it was."""
    kept: bool
    """Whether it is the one that was written."""


class CompactionRecord(Record):
    """`adapterkit compact --json`."""

    form: Literal["adapterkit.compaction/1"] = Field("adapterkit.compaction/1", alias="schema")
    answering: Answerer
    """The new version; its parent is what was compacted."""
    data: RowsUsed
    """The rows that decided."""
    resamples: int
    metric: str
    """The main one."""
    tolerance: float
    """How much worse it was allowed to become."""
    difference: Difference
    """Of the metric, on the same rows."""
    tried: tuple[TriedRecord, ...]
    """In the order in which they were measured."""
    size_bytes: tuple[int, int]
    """Of all files but the manifest, before and after."""
