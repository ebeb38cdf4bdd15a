"""What a shadow answers to some of the rows, beside what answers them. Nothing that happens here reaches an answer."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from adapterkit.errors import AdapterkitError
from adapterkit.serving.fleet import Arm, Fleet, Receipt
from adapterkit.serving.spare_time import TOGETHER, SpareTime

logger = logging.getLogger(__name__)

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
        self._fleet, self._found = fleet, found
        self._log = None if log is None else RotatingFileHandler(log, maxBytes=LOG_BYTES, backupCount=1, delay=True)
        self.spare_time = SpareTime[Shadowed]("adapterkit-shadows", self._ask, busy)

    def close(self) -> None:
        """Let go of the log."""
        if self._log is not None:
            self._log.close()

    def _ask(self, rows: Sequence[Shadowed]) -> None:
        try:
            asked = [(each.shadow.mounted, each.row) for each in rows]
            answers = [each.answer for each in self._fleet.host.answers(asked, errors="return", batch_size=TOGETHER)]
        except Exception:
            logger.exception("a shadow failed")
            answers = [AdapterkitError("the answer could not be computed")] * len(rows)
        for each, answer in zip(rows, answers, strict=True):
            same = None if isinstance(answer, AdapterkitError) else said(answer) == said(each.answer)
            if same is False and self._log is not None:
                line = json.dumps(_line(each, answer), ensure_ascii=False)
                self._log.emit(logging.LogRecord("shadow", logging.INFO, "", 0, line, None, None))
            self._found(each, same)


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
