"""What an evaluation found, as JSON documents with a schema that CI, a registry and a page read without torch."""

from adapterkit.records.compaction import CompactionRecord as CompactionRecord
from adapterkit.records.diff import DiffRecord as DiffRecord
from adapterkit.records.evaluation import AttributionRecord as AttributionRecord
from adapterkit.records.evaluation import CalibratingRecord as CalibratingRecord
from adapterkit.records.evaluation import ComparisonRecord as ComparisonRecord
from adapterkit.records.evaluation import EvaluationRecord as EvaluationRecord
from adapterkit.records.evaluation import MetricRecord as MetricRecord
from adapterkit.records.probe import LayerRecord as LayerRecord
from adapterkit.records.probe import ProbeRecord as ProbeRecord
from adapterkit.records.probe import RepresentationRecord as RepresentationRecord
from adapterkit.records.record import Answerer as Answerer
from adapterkit.records.record import Record as Record
from adapterkit.records.record import RowsUsed as RowsUsed
from adapterkit.records.record import read_record as read_record
from adapterkit.records.schema import RECORDS as RECORDS
from adapterkit.records.schema import record_schema as record_schema
from adapterkit.records.stream import StreamRecord as StreamRecord
from adapterkit.records.transfer import NearestRecord as NearestRecord
from adapterkit.records.transfer import StartRecord as StartRecord
from adapterkit.records.transfer import StartsRecord as StartsRecord
from adapterkit.records.transfer import TransferRecord as TransferRecord
from adapterkit.records.upgrade import UpgradedAdapter as UpgradedAdapter
from adapterkit.records.upgrade import UpgradeRecord as UpgradeRecord
from adapterkit.records.upgrade import UpgradeTrial as UpgradeTrial
