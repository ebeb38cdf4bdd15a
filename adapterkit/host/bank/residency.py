"""Which mounted adapters are in memory: the least recently used make room, and come back when a batch asks for them.

A mounted version is a seat. While it is resident its tensors hang on the seat, and a batch takes them from there
without any lock; whoever holds them keeps them, so an adapter may leave in the middle of a batch that uses it. What
left an accelerator waits in RAM; what left RAM waits in a file of the host's own, in the form in which it computes.
Coming back from there is one read, without what opening an artifact checks, and does not depend on whether the
artifact's folder is still as it was.
"""

import contextlib
import itertools
import os
import shutil
import tempfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from adapterkit.backbone.own_process import finalize_here
from adapterkit.errors import ArtifactError, HostClosedError, OutputError
from adapterkit.host.engine.heads import AnsweringHead
from adapterkit.host.engine.route import Carried

_ALIGNED_BYTES = 64


@dataclass(frozen=True, eq=False)
class Loaded:
    """An adapter's tensors, on the backbone's device: its packed methods, and its heads by name."""

    carried: Carried
    heads: Mapping[str, AnsweringHead]

    @property
    def largest(self) -> float:
        """The largest of its numbers, whatever its sign; scalings are among them."""
        tensors = [method.flat for method in self.carried]
        tensors += [tensor for head in self.heads.values() for tensor in head.tensors.values()]
        return max((float(tensor.abs().amax()) for tensor in tensors if tensor.numel()), default=0.0)

    @property
    def size_bytes(self) -> int:
        """Bytes of all its tensors."""
        return sum(method.size_bytes for method in self.carried) + sum(head.size_bytes for head in self.heads.values())

    def tensors(self) -> list[Tensor]:
        """All of them, in an order that depends on what the adapter is."""
        of_heads = [head.tensors[name] for head in self.heads.values() for name in head.tensors]
        return [method.flat for method in self.carried] + of_heads

    def holding(self, tensors: Iterable[Tensor]) -> "Loaded":
        """The same adapter with these tensors, in the order of `tensors()`."""
        given = iter(tensors)
        carried = tuple(replace(method, flat=next(given)) for method in self.carried)
        heads = {
            name: AnsweringHead(head.template, {path: next(given) for path in head.tensors})
            for name, head in self.heads.items()
        }
        return Loaded(carried, heads)


Away = Callable[[], Loaded]
"""Gives back, on the backbone's device, the tensors of an adapter that is not resident."""


def in_ram(loaded: Loaded, device: torch.device) -> Away:
    """Tensors that leave an accelerator."""
    is_cuda = device.type == "cuda"
    waiting = loaded.holding(tensor.cpu().pin_memory() if is_cuda else tensor.cpu() for tensor in loaded.tensors())
    return lambda: waiting.holding(tensor.to(device, non_blocking=True) for tensor in waiting.tensors())


class OnDisk:
    """Tensors in a file of the host's own: their bytes one after the other, with a checksum kept in memory. `again`
    computes the adapter anew from where it was mounted from, should the file be lost."""

    def __init__(self, loaded: Loaded, path: Path, again: Away) -> None:
        self._path = path
        self._again = again
        # Meta tensors keep shapes and dtypes and no bytes.
        self._shape = loaded.holding(tensor.to("meta") for tensor in loaded.tensors())
        chunks = []
        for tensor in loaded.tensors():
            raw = tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
            chunks += [raw, bytes(-len(raw) % _ALIGNED_BYTES)]
        content = b"".join(chunks)
        self._size_bytes, self._checksum = len(content), zlib.crc32(content)
        path.write_bytes(content)
        finalize_here(self, path.unlink, missing_ok=True)

    def __call__(self) -> Loaded:
        try:
            raw = np.fromfile(self._path, dtype=np.uint8)
        except OSError:
            return self._again()
        if raw.nbytes != self._size_bytes or zlib.crc32(raw.data) != self._checksum:
            return self._again()
        memory = torch.from_numpy(raw)
        tensors, begin = [], 0
        for shape in self._shape.tensors():
            length = shape.numel() * shape.element_size()
            tensors.append(memory[begin : begin + length].view(shape.dtype).view(shape.shape))
            begin += length + -length % _ALIGNED_BYTES
        return self._shape.holding(tensors)


class Seat:
    """One mounted version in a bank: the bytes of its tensors, how many rows it has answered, and its slot, None while
    it is away."""

    def __init__(self, loaded: Loaded, again: Away) -> None:
        self.size_bytes = loaded.size_bytes
        self.hits = 0
        self.slot: int | None = None
        self.loaded: Loaded | None = loaded
        self.away: Away | None = None
        self.left = False
        self.again = again
        self.moving = Lock()


class Bank:
    """At most `slots` resident adapters; those that batches in flight hold may come on top for that long.

    Locks are held for bookkeeping, and per seat while its tensors move. None is held while anything is computed.
    """

    def __init__(self, slots: int, device: torch.device, folder: str | Path | None = None) -> None:
        """`slots`: how many adapters may be resident, at least 1. `device`: the backbone's. `folder`: where the files
        of adapters that left RAM go; None for the system's folder of temporary files. Raises ValueError: no slot at
        all; OutputError: the folder is none that may be written."""
        if slots < 1:
            raise ValueError(f"a host needs at least one slot, not {slots}")
        if folder is not None and not (os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)):
            raise OutputError(f"{folder} is no folder that may be written", remedy="Make it, or name another folder.")
        self.slots = slots
        self._device = device
        self._folder = folder
        self._lock = Lock()
        self._used: OrderedDict[Seat, None] = OrderedDict()
        self._files: Path | None = None
        self._written = 0
        self._fetcher: ThreadPoolExecutor | None = None
        self._closed = False

    def admit(self, loaded: Loaded, again: Away) -> Seat:
        """Give a newly mounted adapter a seat, and let others leave where that is too many."""
        seat = Seat(loaded, again)
        self._shrink(self.slots - 1)
        self._enter(seat)
        try:
            self._shrink(self.slots)  # somebody else may have entered meanwhile
        except BaseException:
            self.release(seat)
            raise
        return seat

    def release(self, seat: Seat) -> None:
        """Take back an unmounted adapter's place. Batches that hold the seat go on using it."""
        with self._lock:
            seat.left = True
            self._vacate(seat)

    def take(self, seats: Sequence[Seat], rows: Sequence[int]) -> list[Loaded]:
        """The tensors of the seats, brought back where they are away; `rows` of each are about to be answered."""
        with self._lock:
            for seat, count in zip(seats, rows, strict=True):
                seat.hits += count
                if seat in self._used:
                    self._used.move_to_end(seat)
        return [seat.loaded or self._bring_back(seat) for seat in seats]

    def prefetch(self, seats: Iterable[Seat]) -> None:
        """Bring seats back in the background, for a batch that waits."""
        missing = [seat for seat in seats if seat.loaded is None and not seat.moving.locked()]
        if not missing:
            return
        with self._lock:
            if self._closed:
                return
            if self._fetcher is None:
                self._fetcher = ThreadPoolExecutor(1, thread_name_prefix="adapterkit-prefetch")
            for seat in missing:  # in turn; what fails will fail again when it is taken
                self._fetcher.submit(self._bring_back, seat)

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._closed = True
            fetcher, self._fetcher = self._fetcher, None
            seats, self._used = list(self._used), OrderedDict()
        if fetcher is not None:
            fetcher.shutdown(wait=True, cancel_futures=True)
        for seat in seats:
            with seat.moving:
                seat.left, seat.loaded, seat.slot = True, None, None

    def _bring_back(self, seat: Seat) -> Loaded:
        self._shrink(self.slots - 1)
        with seat.moving:
            loaded = seat.loaded
            if loaded is not None:
                return loaded
            if seat.away is None:
                raise HostClosedError("this host was closed while it answered")
            loaded = seat.away()
            seat.loaded = loaded
            self._enter(seat)
        self._shrink(self.slots)
        return loaded

    def _enter(self, seat: Seat) -> None:
        with self._lock:
            if seat.left:
                return
            taken = {other.slot for other in self._used}
            seat.slot = next(slot for slot in itertools.count() if slot not in taken)
            self._used[seat] = None

    def _vacate(self, seat: Seat) -> None:
        if seat in self._used:
            del self._used[seat]
            seat.slot = None

    def _shrink(self, most: int) -> None:
        """Let the least recently used leave until at most so many are there. No lock is held when this is called."""
        while True:
            with self._lock:
                if len(self._used) <= most:
                    return
                victim = next(iter(self._used))
                self._vacate(victim)
            with victim.moving:
                loaded = victim.loaded
                try:
                    if victim.away is None and loaded is not None:
                        victim.away = self._put_away(loaded, victim.again)
                except BaseException:
                    self._enter(victim)  # where it cannot go it stays
                    raise
                with self._lock:
                    if victim not in self._used:
                        victim.loaded = None

    def _put_away(self, loaded: Loaded, again: Away) -> Away:
        if self._device.type != "cpu":
            return in_ram(loaded, self._device)
        path: Path | None = None
        try:
            with self._lock:
                if self._files is None:
                    self._files = Path(tempfile.mkdtemp(prefix="adapterkit-host-", dir=self._folder))
                    finalize_here(self, shutil.rmtree, self._files, ignore_errors=True)
                self._written += 1
                path = self._files / str(self._written)
            return OnDisk(loaded, path, again)
        except OSError as error:
            if path is not None:
                with contextlib.suppress(OSError):
                    path.unlink()
            raise ArtifactError(
                "an adapter cannot leave the memory to make room for another",
                [f"{error.filename or path}: {error.strerror or type(error).__name__}"],
                "Free disk space there, name another folder, or give the host more slots.",
            ) from error
