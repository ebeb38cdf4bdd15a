"""What a report is made of."""

from typing import Any, Literal

from pydantic import Field

from adapterkit.records.evaluation import MetricRecord
from adapterkit.records.record import Record, Values


class ReportedRun(Values):
    """An artifact of a report.

    Attributes:
        name: of its folder.
        sha256: digest of its manifest.
        metrics: split -> metric -> value, as its manifest has them.
    """

    name: str
    sha256: str
    kind: str
    backbone: str
    fingerprint: str
    version: int
    parent: str | None
    metrics: dict[str, dict[str, MetricRecord]]


class ReportRecord(Record):
    """`adapterkit report --json`.

    Attributes:
        runs: in the order that they were named in.
        records: what was found about them, each as its verb printed it, by kind and then by digest.
    """

    form: Literal["adapterkit.report/1"] = Field("adapterkit.report/1", alias="schema")
    runs: tuple[ReportedRun, ...]
    records: tuple[dict[str, Any], ...]
