"""What a report is made of."""

from typing import Any, Literal

from pydantic import Field

from adapterkit.records.evaluation import MetricRecord
from adapterkit.records.record import Record, Values


class ReportedRun(Values):
    """An artifact of a report."""

    name: str
    """Of its folder."""
    sha256: str
    """Digest of its manifest."""
    kind: str
    backbone: str
    fingerprint: str
    version: int
    parent: str | None
    metrics: dict[str, dict[str, MetricRecord]]
    """Split -> metric -> value, as its manifest has them."""


class ReportRecord(Record):
    """`adapterkit report --json`."""

    form: Literal["adapterkit.report/1"] = Field("adapterkit.report/1", alias="schema")
    runs: tuple[ReportedRun, ...]
    """In the order that they were named in."""
    records: tuple[dict[str, Any], ...]
    """What was found about them, each as its verb printed it, by kind and then by digest."""
