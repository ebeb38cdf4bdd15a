"""Ctrl-C and termination, heeded between two steps, so that nothing is cut in the middle."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType

import torch
from accelerate import Accelerator

SAME_WISH_SECONDS = 1.0
"""A launcher hands on the signal that its processes also get from the terminal, so it may come twice."""


class Interrupt:
    """Remembers a wish to stop. A second one, some time later, stops at once, as without this class."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._wished_at: float | None = None
        self._before: dict[int, object] = {}

    def wished(self) -> bool:
        """Whether any process was asked to stop; all processes get the same answer."""
        wished = self._wished_at is not None
        if self._accelerator.num_processes == 1:
            return wished
        flag = torch.tensor(float(wished), device=self._accelerator.device)
        return bool(self._accelerator.reduce(flag, reduction="sum").item() > 0)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._wished_at is None:
            self._wished_at = now
        elif now - self._wished_at > SAME_WISH_SECONDS:
            raise KeyboardInterrupt

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
