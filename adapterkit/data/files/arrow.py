"""Rows out of Parquet files, with the names of classes that `datasets` wrote."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pyarrow
import pyarrow.parquet

from adapterkit.data.files.compression import file_head, packing_of
from adapterkit.data.files.dialect import Opened
from adapterkit.data.files.signatures import recognise
from adapterkit.data.files.text import wrong
from adapterkit.data.problems import Problems
from adapterkit.data.rows import Numbered, Row
from adapterkit.errors import DataError

_BATCH_ROWS = 1024


def open_parquet(path: Path) -> Opened:
    """A Parquet file, ready to be read. Raises DataError: it is empty or of another format."""
    head = file_head(path)
    if not head:
        raise DataError(f"{path} is empty", ["found: 0 bytes", "expected: a Parquet file"])
    if not head.startswith(b"PAR1"):
        packing = packing_of(path)
        found = (f"a {packing} archive", "Parquet packs itself: unpack the file.") if packing else recognise(head, path)
        raise wrong(path, found or ("text", ""), "a Parquet file")
    return Opened("Parquet", partial(_rows, path), unit="record")


def _rows(path: Path, problems: Problems) -> Iterator[Numbered]:
    """The records of a Parquet file, numbered from 1. Class labels that `datasets` wrote come as their names.

    The file is read directly, in batches: `datasets` would first copy it into its cache.
    """
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            named = _naming(path, file.schema_arrow)
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, named(row)
    except DataError as error:
        raise DataError(f"{path}, record {number}: {error.summary}", error.problems, error.remedy) from error
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        # Values too: text that is not UTF-8, dates beyond the calendar.
        raise DataError(
            f"{path} is a damaged Parquet file",
            [f"found behind record {number}: {error}"],
            "Fetch or write the file again.",
        ) from error


def _naming(path: Path, schema: pyarrow.Schema) -> Callable[[Row], Row]:
    """What puts names where `datasets` wrote class numbers; it is imported for its own files only."""
    twice = sorted(name for name, count in Counter(schema.names).items() if count > 1)
    if twice:
        raise DataError(f"{path} has columns of the same name", [f"column {name!r}" for name in twice])
    if b"huggingface" not in (schema.metadata or {}):
        return dict
    from datasets import Features

    from adapterkit.data.class_labels import labels_by_name

    return labels_by_name(Features.from_arrow_schema(schema))
