"""Rows of one space: found by key, gathered into a batch, added to.

Any number of processes may read and write one folder at once: each writes segments of its own, under names that nobody
else takes. A row that two of them write is there twice, and either is right.

Axes: B rows of a batch, T tokens, D hidden width.
"""

import contextlib
import json
import os
from array import array
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adapterkit.own_folder import private_folder, secret
from adapterkit.training.trunk_cache.segment import (
    SUFFIX,
    Array,
    Segment,
    SegmentReaders,
    Tagger,
    Unusable,
    open_segment,
    remove_leftovers,
    write_segment,
)
from adapterkit.training.trunk_cache.space import Space

DESCRIPTION = "space.json"
SEGMENT_BYTES = 1 << 27
"""Rows are written together once they take this much memory; a crash loses no more than that."""

VECTOR_BYTES = 1 << 30
"""Pooled rows are kept in memory up to here: one vector takes less time to use than to read."""

MISSING = -1
_UNCHECKED, _RIGHT, _LOST = 0, 1, 2


class StateStore:
    """The rows of one space, in a folder of segments. `refusal`: why nothing is written any more, or ""."""

    def __init__(self, root: Path, space: Space) -> None:
        """Open a space's folder under `root`, and make it where it does not exist.

        Reading goes on where it cannot be written. Where it is not private, or the user's secret cannot be had, nothing
        in it is read either.
        """
        self.space = space
        self.folder = root / space.digest
        self.refusal = ""
        self._tagger: Tagger | None = None
        self._readers = SegmentReaders()
        self._segments: list[Segment] = []
        self._vectors: dict[int, Array] = {}
        self._vector_bytes = 0
        self._opened: set[str] = set()
        self._rows: dict[bytes, int] = {}
        self._twice: dict[bytes, list[int]] = {}
        self._segment, self._number = array("l"), array("l")
        self._start, self._length = array("q"), array("q")
        self._state = bytearray()
        self._pending: list[tuple[bytes, Array]] = []
        self._pending_bytes = 0
        try:
            private_folder(self.folder)
            self._tagger = Tagger(secret("trunk"))
            if not (self.folder / DESCRIPTION).exists():
                part = self.folder / f".{os.getpid()}.description.part"
                part.write_text(json.dumps(asdict(self.space), indent=1), encoding="utf-8")
                os.replace(part, self.folder / DESCRIPTION)
            os.utime(self.folder / DESCRIPTION)  # it is being used; and a disk that is read only says so
            remove_leftovers(self.folder)
        except OSError as error:
            self._refuse(error)
        self.refresh()

    def __len__(self) -> int:
        return len(self._rows)

    def refresh(self) -> None:
        """Take in the segments that were written since."""
        if self._tagger is None:
            return
        with contextlib.suppress(OSError):
            for path in sorted(self.folder.glob(f"*{SUFFIX}")):
                if path.name not in self._opened:
                    self._opened.add(path.name)
                    self._open(path, self._tagger)

    def find(self, keys: Sequence[bytes]) -> list[int]:
        """The numbers of rows, for `gather`; MISSING where a row is not there, or its bytes are not as written."""
        rows = [self._rows.get(key, MISSING) for key in keys]
        for place, key in enumerate(keys):
            while rows[place] != MISSING and self._state[rows[place]] != _RIGHT and not self._check(key, rows[place]):
                rows[place] = self._rows.get(key, MISSING)
        return rows

    def gather(self, rows: Sequence[int], tokens: int) -> tuple[Tensor, list[int]]:
        """Rows in one batch, (B, tokens, D), with zeros behind the end of a row; and the places that stay empty: of
        rows that are MISSING, and of those whose file does not give them any more."""
        batch_BTD = np.zeros((len(rows), tokens, self.space.width), self.space.numpy_dtype)
        empty = [place for place, row in enumerate(rows) if row == MISSING]
        for place in self._gather_vectors(rows, batch_BTD[:, 0]) if tokens == 1 else range(len(rows)):
            row = rows[place]
            if row == MISSING or self._read(row, batch_BTD[place, : self._length[row]]):
                continue
            self._state[row] = _LOST
            batch_BTD[place] = 0
            empty.append(place)
        return torch.from_numpy(batch_BTD).view(self.space.torch_dtype), sorted(empty)

    def _gather_vectors(self, rows: Sequence[int], batch_BD: Array) -> list[int]:
        """Rows of one token each that are in memory, a segment at a time. Returns the places of the others."""
        row_B = np.asarray(rows)
        there = (row_B != MISSING).nonzero()[0]
        segment, start = np.asarray(self._segment)[row_B[there]], np.asarray(self._start)[row_B[there]]
        others: list[int] = []
        for number in np.unique(segment).tolist():
            chosen = segment == number
            if number in self._vectors:
                batch_BD[there[chosen]] = self._vectors[number][start[chosen]]
            else:
                others += there[chosen].tolist()
        return others

    def add(self, key: bytes, states_TD: Tensor) -> None:
        """Keep a row. It can be found after the next `flush`."""
        if self.refusal:
            return
        whole = states_TD.detach().to("cpu", self.space.torch_dtype).contiguous()
        integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[self.space.itemsize]
        kept: Array = whole.view(integer).numpy().view(self.space.numpy_dtype)
        self._pending.append((key, kept.copy()))
        self._pending_bytes += kept.nbytes
        if self._pending_bytes >= SEGMENT_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was added. Where the disk refuses, `refusal` says so and what was not written is forgotten."""
        rows, self._pending, self._pending_bytes = self._pending, [], 0
        if not rows or self.refusal or self._tagger is None:
            return
        try:
            path = write_segment(self.folder, rows, self._tagger)
        except OSError as error:
            self._refuse(error)
            return
        self._opened.add(path.name)
        with contextlib.suppress(OSError):
            self._open(path, self._tagger, trusted=True)

    def _open(self, path: Path, tagger: Tagger, *, trusted: bool = False) -> None:
        try:
            segment = open_segment(path, self.space.width * self.space.itemsize, tagger)
            if segment is Unusable.DAMAGED:
                path.unlink()
        except OSError:
            return
        if isinstance(segment, Unusable):
            return
        number = len(self._segments)
        self._segments.append(segment)
        if self.space.pooling:
            vectors_BD = np.empty((int(segment.lengths.sum()), self.space.width), self.space.numpy_dtype)
            if self._vector_bytes + vectors_BD.nbytes <= VECTOR_BYTES and self._readers.read(segment, 0, vectors_BD):
                self._vectors[number] = vectors_BD
                self._vector_bytes += vectors_BD.nbytes
        starts, lengths = segment.starts.tolist(), segment.lengths.tolist()
        for row, key in enumerate(segment.keys):
            if self._rows.setdefault(key, len(self._state)) != len(self._state):
                self._twice.setdefault(key, []).append(len(self._state))
            self._segment.append(number)
            self._number.append(row)
            self._start.append(starts[row])
            self._length.append(lengths[row])
            self._state.append(_RIGHT if trusted else _UNCHECKED)

    def _read(self, row: int, states_TD: Array) -> bool:
        """Fill an array with a row. False: it cannot be had any more."""
        number, start = self._segment[row], self._start[row]
        vectors_BD = self._vectors.get(number)
        if vectors_BD is None:
            return self._readers.read(self._segments[number], start, states_TD)
        states_TD[:] = vectors_BD[start : start + len(states_TD)]
        return True

    def _check(self, key: bytes, row: int) -> bool:
        segment = self._segments[self._segment[row]]
        states_TD = np.empty((self._length[row], self.space.width), self.space.numpy_dtype)
        right = self._state[row] != _LOST and self._tagger is not None and self._read(row, states_TD)
        if not right or self._tagger is None or self._tagger.tag(states_TD) != segment.tags[self._number[row]]:
            if others := self._twice.get(key):
                self._rows[key] = others.pop()
            else:
                del self._rows[key]
            return False
        self._state[row] = _RIGHT
        return True

    def _refuse(self, error: OSError) -> None:
        self.refusal = f"{error.filename or self.folder}: {error.strerror or error}"
