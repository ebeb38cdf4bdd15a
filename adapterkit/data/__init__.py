"""Rows: read from files and hub data sets, renamed, split, compared and planned into batches."""

from adapterkit.data.buckets import padded_share, plan_batches, shard
from adapterkit.data.columns import ColumnNeed, match_columns, rename
from adapterkit.data.locating import FORMATS, ROOT_VARIABLE, Place, find_place
from adapterkit.data.overlap import Overlap, find_overlap
from adapterkit.data.plain_text import TextUnit
from adapterkit.data.rows import Row, Rows, RowStream, as_rows, canonical
from adapterkit.data.sources import ReadSettings, read_rows, stream_rows
from adapterkit.data.split import split_stream, split_validation

__all__ = [
    "FORMATS",
    "ROOT_VARIABLE",
    "ColumnNeed",
    "Overlap",
    "Place",
    "ReadSettings",
    "Row",
    "RowStream",
    "Rows",
    "TextUnit",
    "as_rows",
    "canonical",
    "find_overlap",
    "find_place",
    "match_columns",
    "padded_share",
    "plan_batches",
    "read_rows",
    "rename",
    "shard",
    "split_stream",
    "split_validation",
    "stream_rows",
]
