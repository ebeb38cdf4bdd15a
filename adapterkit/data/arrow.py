"""Rows out of Arrow: Parquet files and hub data sets, both through `datasets`' features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from datasets import ClassLabel, Features

from adapterkit.data.lines import file_head, recognise
from adapterkit.data.problems import Problems
from adapterkit.data.rows import Numbered
from adapterkit.errors import DataError

_BATCH_ROWS = 1024


def read_parquet(path: Path, problems: Problems) -> Iterator[Numbered]:
    """The records of a Parquet file, numbered from 1. Class labels that `datasets` wrote come as their names.

    The file is read directly, in batches: `datasets` would first copy it into its cache.
    """
    head = file_head(path)
    if not head:
        raise DataError(f"{path} is empty", ["found: 0 bytes", "expected: a Parquet file"])
    if not head.startswith(b"PAR1"):
        raise DataError(
            f"{path} is not a Parquet file",
            [f"found: {recognise(head) or 'text'}", "expected: a Parquet file"],
            "Convert the file, or name its format: data.format=…",
        )
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise DataError(f"{path} has columns of the same name", [f"column {name!r}" for name in twice])
            named = labels_by_name(Features.from_arrow_schema(file.schema_arrow))
            number = 0
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, named(row)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"{path} is a damaged Parquet file", [f"found: {error}"], "Fetch or write the file again."
        ) from error


def labels_by_name(features: Mapping[str, Any] | None) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that puts names where a row has class numbers, also inside lists and structures.

    -1 is `datasets`' sign for a missing label and becomes None. Numbers stay where the names are only the numbers
    written out ("0", "1", …), because then they are positions, as in multiple choice.
    """
    naming = {name: one for name, feature in (features or {}).items() if (one := _naming(feature)) is not None}
    if not naming:
        return dict

    def named(row: dict[str, Any]) -> dict[str, Any]:
        return {name: naming[name](value) if name in naming else value for name, value in row.items()}

    return named


def _naming(feature: Any) -> Callable[[Any], Any] | None:
    if isinstance(feature, ClassLabel):
        names = list(feature.names or [])
        if names == [str(position) for position in range(len(names))]:
            return None
        return lambda value: value if not isinstance(value, int) else names[value] if value >= 0 else None
    inner = feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", None)
    if inner is not None:
        one = _naming(inner)
        if one is None:
            return None
        return lambda value: [one(item) for item in value] if isinstance(value, list) else value
    if isinstance(feature, dict):
        return _naming_structure(feature)
    return None


def _naming_structure(feature: dict[str, Any]) -> Callable[[Any], Any] | None:
    named = labels_by_name(feature)
    if named is dict:
        return None
    return lambda value: named(value) if isinstance(value, dict) else value
