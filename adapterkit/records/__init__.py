"""What an evaluation found, as JSON documents with a schema that CI, a registry and a page read without torch."""

from adapterkit.records.ablation import AblationRecord, SettingRecord
from adapterkit.records.diff import DiffRecord
from adapterkit.records.evaluation import (
    AttributionRecord,
    CalibratingRecord,
    CompactionRecord,
    ComparisonRecord,
    EvaluationRecord,
    MetricRecord,
)
from adapterkit.records.probe import LayerRecord, ProbeRecord, RepresentationRecord
from adapterkit.records.record import Answerer, Record, RowsUsed, figures_of, identity_of, read_record
from adapterkit.records.report import ReportRecord
from adapterkit.records.schema import RECORDS, record_schema
from adapterkit.records.search import FoundArtifact, SearchRecord
from adapterkit.records.stream import StreamRecord
from adapterkit.records.transfer import NearestRecord, StartRecord, StartsRecord, TransferRecord
from adapterkit.records.upgrade import UpgradedAdapter, UpgradeRecord, UpgradeTrial
