"""What an artifact lost in size and in answers."""

from typing import Literal

from pydantic import Field

from adapterkit.metrics.paired import Difference
from adapterkit.records.record import Answerer, Record, RowsUsed, Values


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
