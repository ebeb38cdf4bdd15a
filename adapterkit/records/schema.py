"""Every kind of record by its name, and its JSON schema."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from adapterkit.records.ablation import AblationRecord
from adapterkit.records.diff import DiffRecord
from adapterkit.records.evaluation import (
    AttributionRecord,
    CalibratingRecord,
    CompactionRecord,
    ComparisonRecord,
    EvaluationRecord,
)
from adapterkit.records.probe import ProbeRecord
from adapterkit.records.record import Record
from adapterkit.records.report import ReportRecord
from adapterkit.records.search import SearchRecord
from adapterkit.records.stream import StreamRecord
from adapterkit.records.transfer import NearestRecord, TransferRecord
from adapterkit.records.upgrade import UpgradeRecord

RECORDS: Mapping[str, type[Record]] = MappingProxyType(
    {
        "evaluation": EvaluationRecord,
        "comparison": ComparisonRecord,
        "calibrating": CalibratingRecord,
        "attribution": AttributionRecord,
        "probe": ProbeRecord,
        "nearest": NearestRecord,
        "transfer": TransferRecord,
        "stream": StreamRecord,
        "diff": DiffRecord,
        "compaction": CompactionRecord,
        "upgrade": UpgradeRecord,
        "ablation": AblationRecord,
        "report": ReportRecord,
        "search": SearchRecord,
    }
)
"""Name, as `adapterkit schema` takes it -> kind of record."""


def record_schema(name: str) -> dict[str, Any]:
    """The JSON schema of a record. Raises KeyError for an unknown name."""
    return RECORDS[name].model_json_schema(by_alias=True)
