"""Work beside the answers: in a thread of its own, from a bounded queue."""

import contextlib
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from adapterkit.serving.quoting import wordless

logger = logging.getLogger(__name__)

Piece = TypeVar("Piece")
WAITING = 1024
TOGETHER = 8


class Beside(Generic[Piece]):
    """Hands pieces of work on, a few together at most. What does not fit among those `waiting` is left out and counted,
    and what `work` raises goes to the log. `aside_s`: seconds before what came alone is handed on. `busy`: whether rows
    wait for an answer; nothing is handed on meanwhile."""

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[Piece]], None],
        *,
        waiting: int = WAITING,
        together: int = TOGETHER,
        aside_s: float = 0.0,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._work, self._together, self._aside_s, self._busy = work, together, aside_s, busy
        self._queue: queue.Queue[Piece | None] = queue.Queue(waiting)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._stopping = threading.Event()
        self.left_out = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, *, at_once: bool = False, patience_s: float | None = None) -> None:
        """End after what waits, or after what is being done, and wait for that, for so long at most."""
        if at_once:
            self._stopping.set()
        with contextlib.suppress(queue.Full):  # with a full one it takes the next, and sees that it shall stop
            self._queue.put(None, block=not at_once)
        self._thread.join(patience_s)

    def offer(self, piece: Piece, share: float = 1.0, *, wait: bool = False) -> None:
        """Let a piece of work wait with this probability, unless too many do and it shall not `wait` for room."""
        if share < 1 and random.random() >= share:
            return
        try:
            self._queue.put(piece, block=wait)
        except queue.Full:
            self.left_out += 1

    def _run(self) -> None:
        while (first := self._queue.get()) is not None and not self._stopping.is_set():
            pieces = [first]
            while len(pieces) < self._together and not self._queue.empty():
                if (more := self._queue.get()) is None:
                    return
                pieces.append(more)
            if self._queue.empty():
                time.sleep(self._aside_s)
            while self._busy() and not self._stopping.wait(0.005):
                pass
            try:
                self._work(pieces)
            except Exception as error:  # noqa: BLE001 - logged, without its words
                logger.error("work beside the answers failed: %s", wordless(error))
