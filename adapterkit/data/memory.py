"""Rows that a caller hands over from memory: dicts, DataFrames, data sets and tables, as plain Python values."""

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from adapterkit.data.rows import IN_MEMORY, Row, Rows
from adapterkit.data.split_names import split_of
from adapterkit.errors import DataError

SPLITS = ("train", "validation", "test")

_PLAIN = (str, int, bool, type(None))
_EXPECTED = "expected a list of dicts, a DataFrame, a datasets.Dataset or a table of Arrow"


def rows_of(source: Any, name: str = IN_MEMORY) -> Rows:
    """Rows of what a Python caller hands over, numbered from 1, under its own column names.

    Args:
        source: dicts in a list or another sequence; a dict of columns; pandas' DataFrame, whose index is left out;
            `datasets.Dataset`, whose class numbers come as their names; what gives Arrow (pyarrow, polars). Values
            become plain: numpy's scalars and arrays, tuples, sets of texts. NaN, NA and NaT are None.
        name: what the rows are called in errors.

    Raises:
        DataError: something else, rows that can be gone through only once, no row, or rows that are no mappings.
    """
    if isinstance(source, Rows):
        return source
    rows = list(_plain_rows(source, name))
    if not rows:
        raise DataError(f"{name}: there are no rows", ["found: none", "expected: at least one"])
    return Rows(rows, source=name)


def asked_of(source: Any) -> Sequence[Any]:
    """Rows, or texts, to be answered: what `rows_of` takes, a Series or an array of texts, and what goes by once."""
    if isinstance(source, list | tuple | Rows):
        return source
    pandas = sys.modules.get("pandas")
    if hasattr(source, "tolist") and not (pandas is not None and isinstance(source, pandas.DataFrame)):
        return list(source.tolist())
    return list(source) if isinstance(source, Iterator) else rows_of(source)


def splits_of(data: Any) -> tuple[dict[str, Rows], dict[str, Any]]:
    """The rows of each split, and what of `data` is a setting of the recipe: a file's name, a share, None.
    `data`: "train", "validation" or "test" (or a usual name for it, as in a DatasetDict) -> rows or a setting.
    Raises DataError: another name, one split twice, or rows that cannot be used."""
    if not isinstance(data, Mapping) or not all(isinstance(name, str) for name in data):
        raise DataError(
            "The rows have no splits",
            [f"data: found {type(data).__name__}, expected a mapping of {', '.join(SPLITS)}"],
            'Write data={"train": rows}.',
        )
    named: dict[str, Any] = {}
    problems = []
    for name, value in data.items():
        split = name if name in SPLITS else split_of(name)
        if not split:
            problems.append(f"data: found {name!r}, expected {', '.join(SPLITS)}")
        elif split in named:
            problems.append(f"data: found {split} twice, {name!r} being another name for it")
        else:
            named[split] = value
    if problems:
        raise DataError("The rows' splits cannot be told", problems, 'Name them: data={"train": …, "test": …}')
    settings = {split: value for split, value in named.items() if isinstance(value, str | float | type(None))}
    rows = {split: rows_of(value, f"{IN_MEMORY} ({split})") for split, value in named.items() if split not in settings}
    return rows, settings


def _plain_rows(source: Any, name: str) -> Iterator[Row]:
    pandas, datasets = sys.modules.get("pandas"), sys.modules.get("datasets")
    if pandas is not None and isinstance(source, pandas.DataFrame):
        return _of_frame(source, name)
    if datasets is not None and isinstance(source, datasets.Dataset):
        from adapterkit.data.class_labels import labels_by_name

        return _of_mappings(map(labels_by_name(source.features), source.with_format(None)), name)
    if datasets is not None and isinstance(source, datasets.DatasetDict | datasets.IterableDatasetDict):
        raise DataError(
            f"{name}: found a DatasetDict, expected the rows of one split",
            [f"splits: {', '.join(source)}"],
            'Take one: data_set["train"]; or hand all over where splits are asked for.',
        )
    if hasattr(source, "__arrow_c_stream__"):
        import pyarrow

        return _of_mappings(pyarrow.table(source).to_pylist(), name)
    if isinstance(source, Mapping):
        return _of_columns(source, name)
    if isinstance(source, Sequence) and not isinstance(source, str | bytes):
        return _of_mappings(source, name)
    once = isinstance(source, Iterable) and not isinstance(source, str | bytes)
    raise DataError(
        f"{name}: found {type(source).__name__}, {_EXPECTED}",
        ["rows are gone through more than once, and this can be only once"] if once else [],
        "Write list(rows), or take(n) of a stream first." if once else "",
    )


def _of_mappings(rows: Iterable[Any], name: str) -> Iterator[Row]:
    problems: list[str] = []
    for number, row in enumerate(rows, start=1):
        if isinstance(row, Mapping) and all(isinstance(column, str) for column in row):
            if not problems:
                yield {column: plain(value) for column, value in row.items()}
            continue
        found = f"{type(row).__name__}" if not isinstance(row, Mapping) else "a column whose name is no text"
        problems.append(f"row {number}: found {found}, expected a mapping of column names to values")
        if len(problems) == 20:
            break
    if problems:
        raise DataError(f"{name}: rows that are no rows", problems)


def _of_columns(columns: Mapping[Any, Any], name: str) -> Iterator[Row]:
    """A dict of lists, as `datasets.Dataset.from_dict` takes it."""
    found = {column: plain(values) for column, values in columns.items()}
    lengths = {column: len(values) if isinstance(values, list) else "no list" for column, values in found.items()}
    if "no list" in lengths.values() or len(set(lengths.values())) != 1:
        shown = (f"{column}: {length}" for column, length in lengths.items())
        raise DataError(
            f"{name}: found one mapping, {_EXPECTED}",
            [f"as columns: found lengths {', '.join(shown)}, expected lists of one length"],
            "Put one row into a list: [row].",
        )
    return _of_mappings((dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)), name)


def _of_frame(frame: Any, name: str) -> Iterator[Row]:
    columns = list(frame.columns)
    wrong = [f"column {column!r}: its name is no text" for column in columns if not isinstance(column, str)]
    wrong += [
        f"column {column!r}: stands there twice" for column in dict.fromkeys(columns) if columns.count(column) > 1
    ]
    if wrong:
        raise DataError(f"{name}: a DataFrame whose columns cannot be told apart", wrong, "Rename its columns.")
    return _of_mappings(frame.astype(object).where(frame.notna(), None).to_dict("records"), name)


def plain(value: Any) -> Any:
    """A value as JSON lines would give it: Python's own types, None for what is missing."""
    if isinstance(value, _PLAIN) and type(value) in _PLAIN:
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, set | frozenset) and all(isinstance(inner, str) for inner in value):
        return sorted(value)
    if isinstance(value, str):
        return str(value.value) if hasattr(value, "value") else str(value)
    if type(value).__module__.startswith("pandas.") and type(value).__name__ in ("NAType", "NaTType"):
        return None
    if hasattr(value, "tolist"):  # numpy's scalars and arrays, torch's tensors
        return plain(value.tolist())
    return value
