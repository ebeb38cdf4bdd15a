"""A segment: one file of rows of different lengths, written once and never changed.

    magic (8 bytes) | size of the index, its CRC-32 | index | zeros up to a multiple of 64 | data

The index holds, of every row, its key (16 bytes), its length in tokens and the CRC-32 of its bytes. A segment is
written under a hidden name, flushed to the disk and renamed, so that it stands there whole or not at all.

Axes: T tokens of a row, D hidden width.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

KEY_BYTES = 16
SUFFIX = ".rows"
_PART = ".part"
_MAGIC = b"AKTRUNK1"
_HEAD = struct.Struct("<8sQI4x")
_ALIGNED = 64
_STALE_SECONDS = 86_400.0


@dataclass(frozen=True)
class Segment:
    """An open segment.

    Attributes:
        path: its file.
        keys: of its rows.
        lengths: tokens of each row.
        starts: the first token of each row in `data`.
        checksums: CRC-32 of each row's bytes.
        data: (all tokens, D), on the disk.
    """

    path: Path
    keys: Sequence[bytes]
    lengths: Array
    starts: Array
    checksums: Array
    data: Array

    def is_right(self, row: int) -> bool:
        """Whether the bytes of a row are those that were written."""
        return checksum(self.row(row)) == int(self.checksums[row])

    def row(self, row: int) -> Array:
        """The states of a row, (T, D)."""
        start = int(self.starts[row])
        states_TD: Array = self.data[start : start + int(self.lengths[row])]
        return states_TD


def checksum(states_TD: Array) -> int:
    """CRC-32 of a row's bytes."""
    return zlib.crc32(np.ascontiguousarray(states_TD).data.cast("B"))


def write_segment(folder: Path, rows: Sequence[tuple[bytes, Array]]) -> Path:
    """Write rows, each with its key, into a segment of their own. All rows have one width and one type.

    Raises:
        OSError: the disk refuses; nothing is left of the segment then.
    """
    index = b"".join(
        [
            *(key for key, _ in rows),
            np.array([len(states) for _, states in rows], "<u4").tobytes(),
            np.array([checksum(states) for _, states in rows], "<u4").tobytes(),
        ]
    )
    name = uuid.uuid4().hex
    unfinished = folder / f".{name}{_PART}"
    try:
        with open(unfinished, "xb") as file:
            file.write(_HEAD.pack(_MAGIC, len(index), zlib.crc32(index)))
            file.write(index)
            file.write(bytes(-file.tell() % _ALIGNED))
            for _, states in rows:
                file.write(np.ascontiguousarray(states).data.cast("B"))
            file.flush()
            os.fsync(file.fileno())
        whole = folder / f"{name}{SUFFIX}"
        os.rename(unfinished, whole)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
    return whole


def open_segment(path: Path, width: int, dtype: str) -> Segment | None:
    """Open a segment of rows of this width and numpy type. None where its index or its size is not right.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(_HEAD.size)
        size = os.fstat(file.fileno()).st_size
        magic, index_bytes, expected = _HEAD.unpack(head) if len(head) == _HEAD.size else (b"", 0, 0)
        if magic != _MAGIC or index_bytes > size:
            return None
        index = file.read(index_bytes)
    count, odd = divmod(len(index), KEY_BYTES + 8)
    if odd or len(index) != index_bytes or zlib.crc32(index) != expected:
        return None
    keys = [index[start : start + KEY_BYTES] for start in range(0, count * KEY_BYTES, KEY_BYTES)]
    lengths = np.frombuffer(index, "<u4", count, count * KEY_BYTES).astype(np.int64)
    checksums = np.frombuffer(index, "<u4", count, count * (KEY_BYTES + 4))
    offset = -(-(_HEAD.size + index_bytes) // _ALIGNED) * _ALIGNED
    tokens = int(lengths.sum())
    if not tokens or size != offset + tokens * width * np.dtype(dtype).itemsize:
        return None
    data = np.asarray(np.memmap(path, dtype, "r", offset, (tokens, width)))  # a memmap's own slices are slow
    return Segment(path, keys, lengths, np.cumsum(lengths) - lengths, checksums, data)


def count_rows(path: Path) -> int:
    """How many rows a segment has, from its first bytes; 0 where these are not right."""
    with open(path, "rb") as file:
        head = file.read(_HEAD.size)
    magic, index_bytes, _ = _HEAD.unpack(head) if len(head) == _HEAD.size else (b"", 0, 0)
    return int(index_bytes) // (KEY_BYTES + 8) if magic == _MAGIC else 0


def remove_leftovers(folder: Path) -> None:
    """Remove what writers that were killed have left behind, once it is a day old."""
    for unfinished in folder.glob(f".*{_PART}"):
        with contextlib.suppress(OSError):
            if time.time() - unfinished.stat().st_mtime > _STALE_SECONDS:
                unfinished.unlink()
