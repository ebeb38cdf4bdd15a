"""A file of rows, and what is wrong with one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from adapterkit.data import read_rows
from adapterkit.errors import DataError


def jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """The path, with the rows written there."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def problems_of(path: str | Path, **arguments: Any) -> DataError:
    """With what `read_rows` refuses a file."""
    with pytest.raises(DataError) as caught:
        read_rows(path, **arguments)
    return caught.value
