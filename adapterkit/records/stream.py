"""Tasks or domains learned one after another, and what was forgotten of those before."""

from typing import Literal

from pydantic import Field

from adapterkit.metrics.paired import Difference
from adapterkit.records.evaluation import MetricRecord
from adapterkit.records.record import Answerer, Record, RowsUsed, Values


class WayRecord(Values):
    """One way of learning the stages."""

    answering: dict[str, Answerer]
    """Stage -> who answers for it after the last one."""
    after: dict[str, dict[str, MetricRecord]]
    """Stage -> every stage up to it -> the metric on that one's test rows then."""
    forgetting: dict[str, Difference]
    """Stage, but for the last -> the metric after the last stage less that right after the stage itself."""


class StreamRecord(Record):
    """`adapterkit stream --json`."""

    form: Literal["adapterkit.stream/1"] = Field("adapterkit.stream/1", alias="schema")
    data: dict[str, RowsUsed]
    """Stage -> its test rows."""
    resamples: int
    metrics: dict[str, str]
    """Stage -> the metric that is compared."""
    ways: dict[str, WayRecord]
    """ "isolated": each stage trains an adapter of its own; "through": one adapter is trained on; "joint": one method
    with a head for each stage learns all of them at once."""
    against: dict[str, dict[str, Difference]]
    """Every other way -> stage -> its metric less that of "isolated", after the last stage."""
    findings: tuple[str, ...]


def said(one: Difference) -> str:
    """A difference as people read it: "-0.120 [-0.150, -0.090]"."""
    return f"{one.difference:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"
