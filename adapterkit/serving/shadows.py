"""What a shadow answers to some of the rows, beside what answers them. Nothing that happens here reaches an answer."""

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from adapterkit.errors import AdapterkitError
from adapterkit.serving.beside import TOGETHER, Beside
from adapterkit.serving.fleet import Arm, Fleet, Receipt
from adapterkit.serving.quoting import wordless
from adapterkit.tasks.closer_look import answering

logger = logging.getLogger(__name__)

LOG_BYTES = 64 << 20


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
    """Asks shadows while no row waits for an answer, and tells `found` of every row that one was asked.
    `log`: JSON lines of the rows that it answered otherwise; without texts, unless the rules say so. Two files of at
    most 64 MiB."""

    def __init__(self, fleet: Fleet, found: Found, log: Path | None, busy: Callable[[], bool]) -> None:
        self._fleet, self._found = fleet, found
        self._log = None if log is None else RotatingFileHandler(log, maxBytes=LOG_BYTES, backupCount=1, delay=True)
        self.spare_time = Beside[Shadowed]("adapterkit-shadows", self._ask, busy=busy)

    def close(self) -> None:
        """Let go of the log."""
        if self._log is not None:
            self._log.close()

    def _ask(self, rows: Sequence[Shadowed]) -> None:
        try:
            asked = [(each.shadow.mounted, each.row) for each in rows]
            answers = [each.answer for each in self._fleet.host.answers(asked, errors="return", batch_size=TOGETHER)]
        except Exception as error:  # noqa: BLE001 - logged, without its words
            logger.error("a shadow failed: %s", wordless(error))
            answers = [AdapterkitError("the answer could not be computed")] * len(rows)
        for each, answer in zip(rows, answers, strict=True):
            agrees = None if isinstance(answer, AdapterkitError) else same(each.answer, answer)
            if agrees is False and self._log is not None:
                line = json.dumps(_line(each, answer), ensure_ascii=False)
                self._log.emit(logging.LogRecord("shadow", logging.INFO, "", 0, line, None, None))
            self._found(each, agrees)


def same(one: Any, other: Any) -> bool:
    """Whether two answers answer the same, however sure they are; numbers to one part in a hundred."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        name = answering(one)
        if name is not None:
            return name in other and same(one[name], other[name])
        return one.keys() == other.keys() and all(same(one[head], other[head]) for head in one)
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=0.01)
    return bool(one == other)


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
