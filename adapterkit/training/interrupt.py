"""Ctrl-C and termination, heeded between two steps, so that nothing is cut in the middle."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

import torch
from accelerate import Accelerator

SAME_WISH_SECONDS = 1.0
"""A launcher hands on the signal that its processes also get from the terminal, so it may come twice."""


class Interrupt:
    """Remembers a wish to stop. A second one, some time later, stops at once, as without this class.

    Several runs may stand inside one at the same time; the last to leave puts the handlers back. `insisted`: whether
    there was a second one."""

    def __init__(self) -> None:
        self.insisted = False
        self._wished_at: float | None = None
        self._before: dict[int, object] = {}
        self._inside = 0

    @property
    def asked(self) -> bool:
        """Whether this process was asked to stop."""
        return self._wished_at is not None

    def wished(self, accelerator: Accelerator) -> bool:
        """Whether any process was asked to stop; all processes get the same answer."""
        if accelerator.num_processes == 1:
            return self.asked
        flag = torch.tensor(float(self.asked), device=accelerator.device)
        return bool(accelerator.reduce(flag, reduction="sum").item() > 0)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._wished_at is None:
            self._wished_at = now
        elif now - self._wished_at > SAME_WISH_SECONDS:
            self.insisted = True
            raise KeyboardInterrupt

    def __enter__(self) -> Interrupt:
        self._inside += 1
        if self._inside == 1 and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *exception: object) -> None:
        self._inside -= 1
        if not self._inside:
            for number, handler in self._before.items():
                signal.signal(number, handler)  # type: ignore[arg-type]
