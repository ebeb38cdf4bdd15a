"""What is computed beside the answers: a shadow's answers to some of the rows, and what it answers otherwise.

One thread asks the host while no row waits for an answer. Its queue is bounded: what does not fit is left out and
counted. No answer waits for it, and nothing that happens here reaches one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from adapterkit.errors import AdapterkitError
from adapterkit.serving.fleet import Arm, Fleet, Receipt

logger = logging.getLogger(__name__)

WAITING = 1024
TOGETHER = 8
LOG_BYTES = 64 << 20
SURENESS = frozenset({"score", "scores", "confidence", "probability", "abstained"})
"""What two answers may differ in and still be the same answer."""


@dataclass(frozen=True)
class Shadowed:
    """A row that was answered, and is to be answered by a shadow as well."""

    row: Any
    answer: Any
    receipt: Receipt
    shadow: Arm
    log_rows: bool


Found = Callable[[Shadowed, bool | None], None]
"""Told of a row and whether the shadow answered the same; None where it could not answer."""


class Shadows:
    """Asks shadows.

    Args:
        found: told of every row that a shadow was asked.
        log: JSON lines of the rows that it answered otherwise; without texts, unless the rules say so. Two files of at
            most 64 MiB.
        busy: whether rows wait for an answer.
    """

    def __init__(self, fleet: Fleet, found: Found, log: Path | None, busy: Callable[[], bool]) -> None:
        self._fleet, self._found, self._busy = fleet, found, busy
        self._queue: queue.Queue[Shadowed | None] = queue.Queue(WAITING)
        self._log = None if log is None else RotatingFileHandler(log, maxBytes=LOG_BYTES, backupCount=1, delay=True)
        self._thread = threading.Thread(target=self._run, name="adapterkit-shadows", daemon=True)
        self._stopping = threading.Event()
        self.left_out = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after what is being asked; what waits is left out."""
        self._stopping.set()
        with contextlib.suppress(queue.Full):  # of a full one it takes the next, and sees that it shall stop
            self._queue.put_nowait(None)
        self._thread.join(timeout=5.0)
        if self._log is not None:
            self._log.close()

    def offer(self, share: float, row: Shadowed) -> None:
        """Let a row be asked with this probability, unless too many wait."""
        if share < 1 and random.random() >= share:
            return
        try:
            self._queue.put_nowait(row)
        except queue.Full:
            self.left_out += 1

    def _run(self) -> None:
        while (first := self._queue.get()) is not None and not self._stopping.is_set():
            rows = [first]
            while len(rows) < TOGETHER and not self._queue.empty():
                if (more := self._queue.get()) is None:
                    return
                rows.append(more)
            while self._busy() and not self._stopping.wait(0.005):
                pass
            try:
                self._ask(rows)
            except Exception:
                logger.exception("shadows were not asked")

    def _ask(self, rows: Sequence[Shadowed]) -> None:
        try:
            asked = [(each.shadow.mounted, each.row) for each in rows]
            answers = [each.answer for each in self._fleet.host.answers(asked, errors="return", batch_size=TOGETHER)]
        except Exception:
            logger.exception("a shadow failed")
            answers = [AdapterkitError("the answer could not be computed")] * len(rows)
        for each, answer in zip(rows, answers, strict=True):
            same = None if isinstance(answer, AdapterkitError) else said(answer) == said(each.answer)
            self._found(each, same)
            if same is False and self._log is not None:
                line = json.dumps(_line(each, answer), ensure_ascii=False)
                self._log.emit(logging.LogRecord("shadow", logging.INFO, "", 0, line, None, None))


def said(answer: Any) -> Any:
    """An answer without how sure it is, which every version is in its own way."""
    if isinstance(answer, Mapping):
        return {name: said(value) for name, value in answer.items() if name not in SURENESS}
    if isinstance(answer, list | tuple):
        return [said(each) for each in answer]
    return round(answer, 3) if isinstance(answer, float) else answer


def _line(each: Shadowed, answer: Any) -> dict[str, Any]:
    receipt, shadow = each.receipt, each.shadow
    answered = {"version": receipt.version, "artifact": receipt.artifact, "arm": receipt.arm}
    line = {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "task": receipt.task,
        "answered": {**answered, **_shown(each.answer, each.log_rows)},
        "shadow": {"version": shadow.version, "artifact": shadow.digest, **_shown(answer, each.log_rows)},
    }
    return {**line, "row": each.row} if each.log_rows else line


def _shown(answer: Any, whole: bool) -> dict[str, Any]:
    """A label, which is the artifact's own, and how sure it is; the answer whole where the rules say so."""
    if whole or not isinstance(answer, Mapping):
        return {"answer": answer} if whole else {}
    return {name: answer[name] for name in ("label", "labels", "confidence") if name in answer}
