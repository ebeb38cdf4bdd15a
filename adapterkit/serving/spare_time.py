"""Work beside the answers: in a thread of its own, from a bounded queue, while no row waits for an answer."""

import contextlib
import logging
import queue
import random
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from adapterkit.serving.quoting import wordless

logger = logging.getLogger(__name__)

Piece = TypeVar("Piece")
WAITING = 1024
TOGETHER = 8


class SpareTime(Generic[Piece]):
    """Hands pieces of work on, a few together. What does not fit is left out and counted, and what `work` raises goes
    to the log. `busy`: whether rows wait for an answer."""

    def __init__(self, name: str, work: Callable[[Sequence[Piece]], None], busy: Callable[[], bool]) -> None:
        self._work, self._busy = work, busy
        self._queue: queue.Queue[Piece | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._stopping = threading.Event()
        self.left_out = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after what is being done; what waits is left out."""
        self._stopping.set()
        with contextlib.suppress(queue.Full):  # with a full one it takes the next, and sees that it shall stop
            self._queue.put_nowait(None)
        self._thread.join(timeout=5.0)

    def offer(self, share: float, piece: Piece) -> None:
        """Let a piece of work wait with this probability, unless too many do."""
        if share < 1 and random.random() >= share:
            return
        try:
            self._queue.put_nowait(piece)
        except queue.Full:
            self.left_out += 1

    def _run(self) -> None:
        while (first := self._queue.get()) is not None and not self._stopping.is_set():
            pieces = [first]
            while len(pieces) < TOGETHER and not self._queue.empty():
                if (more := self._queue.get()) is None:
                    return
                pieces.append(more)
            while self._busy() and not self._stopping.wait(0.005):
                pass
            try:
                self._work(pieces)
            except Exception as error:  # noqa: BLE001 - logged, without its words
                logger.error("work beside the answers failed: %s", wordless(error))
