"""What an evaluation found, as JSON documents with a schema that CI, a registry and a page read without torch."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from adapterkit.records.evaluation import (
    AttributionRecord,
    CalibratingRecord,
    CompactionRecord,
    ComparisonRecord,
    EvaluationRecord,
    MetricRecord,
)
from adapterkit.records.found import FoundArtifact, ReportRecord, SearchRecord
from adapterkit.records.record import Answerer, Record, RowsUsed, figures_of, identity_of, read_record
from adapterkit.records.representations import (
    LayerRecord,
    NearestRecord,
    ProbeRecord,
    RepresentationRecord,
    StartRecord,
    StartsRecord,
    TransferRecord,
)
from adapterkit.records.versions import (
    AblationRecord,
    DiffRecord,
    SettingRecord,
    StreamRecord,
    UpgradedAdapter,
    UpgradeRecord,
    UpgradeTrial,
)

__all__ = [
    "RECORDS", "AblationRecord", "Answerer", "AttributionRecord", "CalibratingRecord", "CompactionRecord",
    "ComparisonRecord", "DiffRecord", "EvaluationRecord", "FoundArtifact", "LayerRecord", "MetricRecord",
    "NearestRecord", "ProbeRecord", "Record", "ReportRecord", "RepresentationRecord", "RowsUsed", "SearchRecord",
    "SettingRecord", "StartRecord", "StartsRecord", "StreamRecord", "TransferRecord", "UpgradeRecord", "UpgradeTrial",
    "UpgradedAdapter", "figures_of", "identity_of", "read_record", "record_schema",
]  # fmt: skip

RECORDS: Mapping[str, type[Record]] = MappingProxyType({
    "evaluation": EvaluationRecord, "comparison": ComparisonRecord, "calibrating": CalibratingRecord,
    "attribution": AttributionRecord, "probe": ProbeRecord, "nearest": NearestRecord, "transfer": TransferRecord,
    "stream": StreamRecord, "diff": DiffRecord, "compaction": CompactionRecord, "upgrade": UpgradeRecord,
    "ablation": AblationRecord, "report": ReportRecord, "search": SearchRecord,
})  # fmt: skip
"""Name, as `adapterkit schema` takes it -> kind of record."""


def record_schema(name: str) -> dict[str, Any]:
    """The JSON schema of a record. Raises KeyError for an unknown name."""
    return RECORDS[name].model_json_schema(by_alias=True)
