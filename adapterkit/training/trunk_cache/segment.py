"""A segment: one file of rows of different lengths, written once and never changed.

    magic (8 bytes) | which key (8) | size of the index | tag of all before it and of the index (16) | index
    | zeros up to a multiple of 64 | data

The index holds, of every row, its key (16 bytes), its length in tokens and a tag of its bytes. Tags are keyed with a
secret of the user: nobody else can write a row that is believed. A segment is written under a hidden name, flushed to
the disk and renamed, so that it stands there whole or not at all. It is read and never mapped: a file that was cut
short gives fewer bytes, and no signal.

Axes: T tokens of a row, D hidden width.
"""

import contextlib
import hashlib
import os
import struct
import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from adapterkit.backbone.own_process import finalize_here
from adapterkit.own_folder import open_private

Array = np.ndarray[Any, np.dtype[Any]]

KEY_BYTES = 16
TAG_BYTES = 16
SUFFIX = ".rows"
MOST_OPEN = 128
_PART = ".part"
_MAGIC = b"AKTRUNK2"
_HEAD = struct.Struct("<8s8sQ")
_ALIGNED = 64
_STALE_SECONDS = 86_400.0
_ROW_BYTES = KEY_BYTES + 4 + TAG_BYTES


class Tagger:
    """Tags bytes with a secret: SHA-256 over the secret and the bytes, of which half is kept.

    Lengths stand in what is tagged, so that no tag of more bytes can be made from one of fewer. `key_id` tells secrets
    apart.
    """

    def __init__(self, secret: bytes) -> None:
        self.key_id = hashlib.sha256(b"which key" + secret).digest()[:8]
        self._begun = hashlib.sha256(secret.ljust(64, b"\0"))

    def tag(self, *contents: Any) -> bytes:
        """The tag of bytes, or of arrays as they lie in memory."""
        digest = self._begun.copy()
        for content in contents:
            digest.update(np.ascontiguousarray(content).data.cast("B") if isinstance(content, np.ndarray) else content)
        return digest.digest()[:TAG_BYTES]


@dataclass(frozen=True)
class Segment:
    """What the index of a segment says: the keys of its rows, their lengths, where they start, and their tags."""

    path: Path
    identity: tuple[int, int, int]
    """Device, inode and size of that file."""
    keys: Sequence[bytes]
    lengths: Array
    starts: Array
    """The first token of each row in the data."""
    tags: Sequence[bytes]
    offset: int
    """Where the data begins."""


class SegmentReaders:
    """Open files of segments, those that were read last."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, int] = OrderedDict()
        finalize_here(self, _close, self._open)

    def read(self, segment: Segment, start_token: int, states_TD: Array) -> bool:
        """Fill an array with the states from a token on. False: the file does not give them any more."""
        try:
            handle = self._handle(segment)
            begin = segment.offset + start_token * states_TD.shape[1] * states_TD.itemsize
            return os.preadv(handle, [states_TD.data.cast("B")], begin) == states_TD.nbytes
        except OSError:
            return False

    def _handle(self, segment: Segment) -> int:
        handle = self._open.get(segment.path)
        if handle is None:
            handle = open_private(segment.path)
            if _identity(handle) != segment.identity:
                os.close(handle)
                raise OSError(f"{segment.path} is another file")
            if len(self._open) >= MOST_OPEN:
                os.close(self._open.popitem(last=False)[1])
            self._open[segment.path] = handle
        self._open.move_to_end(segment.path)
        return handle


def _close(handles: OrderedDict[Path, int]) -> None:
    for handle in handles.values():
        os.close(handle)


def _identity(handle: int) -> tuple[int, int, int]:
    facts = os.fstat(handle)
    return facts.st_dev, facts.st_ino, facts.st_size


def write_segment(folder: Path, rows: Sequence[tuple[bytes, Array]], tagger: Tagger) -> Path:
    """Write rows, each with its key, into a segment of their own. All rows have one width and one type.
    Raises OSError: the disk refuses; nothing is left of the segment then."""
    lengths = np.array([len(states) for _, states in rows], "<u4").tobytes()
    index = b"".join([*(key for key, _ in rows), lengths, *(tagger.tag(states) for _, states in rows)])
    head = _HEAD.pack(_MAGIC, tagger.key_id, len(index))
    name = uuid.uuid4().hex
    part = folder / f".{name}{_PART}"
    try:
        with open(part, "xb") as file:
            file.write(head)
            file.write(tagger.tag(head, index))
            file.write(index)
            file.write(bytes(-file.tell() % _ALIGNED))
            for _, states in rows:
                file.write(np.ascontiguousarray(states).data.cast("B"))
            file.flush()
            os.fsync(file.fileno())
        whole = folder / f"{name}{SUFFIX}"
        os.rename(part, whole)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    return whole


class Unusable(Enum):
    """Why a segment is not read: another secret wrote it, or it is not as it was written."""

    FOREIGN = "foreign"
    DAMAGED = "damaged"


def open_segment(path: Path, token_bytes: int, tagger: Tagger) -> Segment | Unusable:
    """Read a segment's index. `token_bytes`: of the states of one token. Raises OSError: it cannot be read, is no plain
    file, or belongs to somebody else."""
    with open(open_private(path), "rb") as file:
        identity = _identity(file.fileno())
        head, magic, key_id, index_bytes = _read_head(file)
        if magic == _MAGIC and key_id != tagger.key_id:
            return Unusable.FOREIGN
        if magic != _MAGIC or index_bytes > identity[2]:
            return Unusable.DAMAGED
        tag, index = file.read(TAG_BYTES), file.read(index_bytes)
    count, odd = divmod(index_bytes, _ROW_BYTES)
    if odd or len(index) != index_bytes or tagger.tag(head, index) != tag:
        return Unusable.DAMAGED
    keys = [index[start : start + KEY_BYTES] for start in range(0, count * KEY_BYTES, KEY_BYTES)]
    lengths = np.frombuffer(index, "<u4", count, count * KEY_BYTES).astype(np.int64)
    tags_at = count * (KEY_BYTES + 4)
    tags = [index[start : start + TAG_BYTES] for start in range(tags_at, index_bytes, TAG_BYTES)]
    offset = -(-(_HEAD.size + TAG_BYTES + index_bytes) // _ALIGNED) * _ALIGNED
    if not count or identity[2] != offset + int(lengths.sum()) * token_bytes:
        return Unusable.DAMAGED
    return Segment(path, identity, keys, lengths, np.cumsum(lengths) - lengths, tags, offset)


def count_rows(path: Path) -> int:
    """How many rows a segment says that it has, from its first bytes; 0 where these are not right or cannot be read."""
    with contextlib.suppress(OSError), open(open_private(path), "rb") as file:
        _, magic, _, index_bytes = _read_head(file)
        return index_bytes // _ROW_BYTES if magic == _MAGIC else 0
    return 0


def _read_head(file: BinaryIO) -> tuple[bytes, bytes, bytes, int]:
    """The first bytes of a segment, and what they say: magic, which key, size of the index."""
    head = file.read(_HEAD.size)
    magic, key_id, index_bytes = _HEAD.unpack(head) if len(head) == _HEAD.size else (b"", b"", 0)
    return head, magic, key_id, index_bytes


def remove_leftovers(folder: Path) -> None:
    """Remove what writers that were killed have left behind, once it is a day old."""
    for part in folder.glob(f".*{_PART}"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > _STALE_SECONDS:
                part.unlink()
