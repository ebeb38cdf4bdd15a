"""The run's journal: one JSON object per line for everything that happened, for people and for plots."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any


class Journal:
    """Appends events to a file. What stands there after the step that a run resumes from is dropped."""

    def __init__(self, path: Path | None, *, resume_after: int | None = None) -> None:
        """Open a journal.

        Args:
            path: its file; None writes nothing, as all processes but the first do.
            resume_after: keep the events up to this step; None begins a new journal.
        """
        self._file = None
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = []
        if resume_after is not None and path.is_file():
            kept = [event for event in read_journal(path) if event.get("step", 0) <= resume_after]
        path.write_text("".join(_line(event) for event in kept), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, event: str, **values: Any) -> None:
        """Add one event. JSON has no word for NaN and infinity, so they become null."""
        if self._file is not None:
            self._file.write(_line({"event": event, **values}))

    def close(self) -> None:
        """End the journal."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a journal; a last line that a crash cut off is left out."""
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            return
        if isinstance(event, dict):
            yield event


def _line(event: Mapping[str, Any]) -> str:
    return json.dumps(_finite(event), ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
