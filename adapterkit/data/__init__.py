"""Rows: read from files and hub data sets, renamed, split, compared and planned into batches."""

from adapterkit.data.buckets import group_by_length, shard
from adapterkit.data.columns import match_columns, overlooked, rename
from adapterkit.data.files.dialect import TextUnit
from adapterkit.data.folders import Located
from adapterkit.data.locating import FORMATS, ROOT_VARIABLE, check_sources, locate
from adapterkit.data.memory import asked_of, rows_of, splits_of
from adapterkit.data.overlap import Overlap, Repeats, find_overlap, find_repeats
from adapterkit.data.rows import IN_MEMORY, Reading, Row, Rows, RowStream, as_rows, canonical
from adapterkit.data.sources import named_rows, read_rows, stream_rows
from adapterkit.data.split import split_stream, split_validation

__all__ = [
    "FORMATS", "IN_MEMORY", "ROOT_VARIABLE", "Located", "Overlap", "Reading", "Repeats", "Row", "RowStream", "Rows",
    "TextUnit", "as_rows", "asked_of", "canonical", "check_sources", "find_overlap", "find_repeats", "group_by_length",
    "locate", "match_columns", "named_rows", "overlooked", "read_rows", "rename", "rows_of", "shard",
    "split_stream", "split_validation", "splits_of", "stream_rows",
]  # fmt: skip
