"""Rows of one space: found by key, gathered into a batch, added to.

Any number of processes may read and write one folder at once: each writes segments of its own, under names that nobody
else takes. A row that two of them write is there twice, and either is right.

Axes: B rows of a batch, T tokens, D hidden width.
"""

from __future__ import annotations

import contextlib
import json
import os
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adapterkit.training.trunk_cache.segment import (
    SUFFIX,
    Array,
    Segment,
    open_segment,
    remove_leftovers,
    write_segment,
)
from adapterkit.training.trunk_cache.space import Space

DESCRIPTION = "space.json"
SEGMENT_BYTES = 1 << 27
"""Rows are written together once they take this much memory; a crash loses no more than that."""

MISSING = -1


class StateStore:
    """The rows of one space.

    Attributes:
        folder: where its segments are.
        refusal: why nothing is written any more, or "".
    """

    def __init__(self, root: Path, space: Space) -> None:
        """Open a space's folder under `root`, and make it where it does not exist; reading goes on where that fails."""
        self.space = space
        self.folder = root / space.digest
        self.refusal = ""
        self._segments: list[Segment] = []
        self._opened: set[str] = set()
        self._rows: dict[bytes, int] = {}
        self._segment, self._start, self._length = array("l"), array("q"), array("q")
        self._checked = bytearray()
        self._pending: list[tuple[bytes, Array]] = []
        self._pending_bytes = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._describe()
            os.utime(self.folder / DESCRIPTION)  # it is being used; and a disk that is read only says so
            remove_leftovers(self.folder)
        except OSError as error:
            self._refuse(error)
        self.refresh()

    def __len__(self) -> int:
        return len(self._rows)

    def refresh(self) -> None:
        """Take in the segments that were written since."""
        with contextlib.suppress(OSError):
            for path in sorted(self.folder.glob(f"*{SUFFIX}")):
                if path.name not in self._opened:
                    self._opened.add(path.name)
                    self._open(path)

    def find(self, keys: Sequence[bytes]) -> list[int]:
        """The numbers of rows, for `gather`; MISSING where a row is not there, or its bytes are not as written."""
        rows = [self._rows.get(key, MISSING) for key in keys]
        for place, row in enumerate(rows):
            if row != MISSING and not self._checked[row] and not self._check(keys[place], row):
                rows[place] = MISSING
        return rows

    def gather(self, rows: Sequence[int], tokens: int) -> Tensor:
        """Rows in one batch, (B, tokens, D); zeros behind the end of a row, and for a row that is MISSING."""
        batch_BTD = np.zeros((len(rows), tokens, self.space.width), self.space.numpy_dtype)
        if tokens == 1:
            self._gather_vectors(rows, batch_BTD[:, 0])
        else:
            for place, row in enumerate(rows):
                if row != MISSING:
                    start, length = self._start[row], self._length[row]
                    batch_BTD[place, :length] = self._segments[self._segment[row]].data[start : start + length]
        return torch.from_numpy(batch_BTD).view(self.space.torch_dtype)

    def _gather_vectors(self, rows: Sequence[int], batch_BD: Array) -> None:
        """Rows of one token each, a segment at a time."""
        row_B = np.asarray(rows)
        there = (row_B != MISSING).nonzero()[0]
        segment, start = np.asarray(self._segment)[row_B[there]], np.asarray(self._start)[row_B[there]]
        for number in np.unique(segment):
            chosen = segment == number
            batch_BD[there[chosen]] = self._segments[number].data[start[chosen]]

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
        if not rows or self.refusal:
            return
        try:
            path = write_segment(self.folder, rows)
        except OSError as error:
            self._refuse(error)
            return
        self._opened.add(path.name)
        with contextlib.suppress(OSError):
            self._open(path, trusted=True)

    def _open(self, path: Path, *, trusted: bool = False) -> None:
        segment = open_segment(path, self.space.width, self.space.numpy_dtype)
        if segment is None:
            with contextlib.suppress(OSError):
                path.unlink()
            return
        number = len(self._segments)
        self._segments.append(segment)
        starts, lengths = segment.starts.tolist(), segment.lengths.tolist()
        for row, key in enumerate(segment.keys):
            if key in self._rows:
                continue
            self._rows[key] = len(self._checked)
            self._segment.append(number)
            self._start.append(starts[row])
            self._length.append(lengths[row])
            self._checked.append(trusted)

    def _check(self, key: bytes, row: int) -> bool:
        segment = self._segments[self._segment[row]]
        if not segment.is_right(int(np.searchsorted(segment.starts, self._start[row]))):
            del self._rows[key]
            return False
        self._checked[row] = True
        return True

    def _describe(self) -> None:
        description = self.folder / DESCRIPTION
        if not description.exists():
            unfinished = self.folder / f".{os.getpid()}.description.part"
            unfinished.write_text(json.dumps(self.space.to_dict(), indent=1), encoding="utf-8")
            os.replace(unfinished, description)

    def _refuse(self, error: OSError) -> None:
        self.refusal = f"{self.folder}: {error.strerror or error}"
