"""What an evaluation found, as JSON documents with a schema that CI, a registry and a page read without torch."""

from adapterkit.records.comparison import ComparisonRecord, DifferenceRecord, SidesRecord, SliceRecord
from adapterkit.records.evaluation import CalibrationRecord, EvaluationRecord, MetricRecord
from adapterkit.records.probe import LayerRecord, ProbeRecord, RepresentationRecord
from adapterkit.records.record import Answerer, Record, RowsUsed, read_record
from adapterkit.records.schema import RECORDS, record_schema
from adapterkit.records.transfer import NearestRecord, StartRecord, StartsRecord, TransferRecord

__all__ = [
    "RECORDS",
    "Answerer",
    "CalibrationRecord",
    "ComparisonRecord",
    "DifferenceRecord",
    "EvaluationRecord",
    "LayerRecord",
    "MetricRecord",
    "NearestRecord",
    "ProbeRecord",
    "Record",
    "RepresentationRecord",
    "RowsUsed",
    "SidesRecord",
    "SliceRecord",
    "StartRecord",
    "StartsRecord",
    "TransferRecord",
    "read_record",
    "record_schema",
]
