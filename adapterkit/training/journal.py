"""The run's journal: one JSON object per line for everything that happened, for people and for plots."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt

from adapterkit.manifest import write_file
from adapterkit.manifest.record_lines import cannot_be_written, lines_of, read_records, write_whole


class _Event(BaseModel):
    """What is read of an event of any kind."""

    model_config = ConfigDict(extra="allow", strict=True)
    event: str
    step: NonNegativeInt = 0


class _Begin(_Event):
    trunk_cache: str | None = None


class _Step(_Event):
    step: NonNegativeInt
    loss: float
    seconds: float


class _Validation(_Event):
    step: NonNegativeInt
    metrics: dict[str, float | None]
    intervals: dict[str, list[float | None]] = {}
    kept: bool


_KINDS: dict[str, type[_Event]] = {"begin": _Begin, "step": _Step, "validation": _Validation}


class Journal:
    """Appends events to a file. What stands there after the step that a run resumes from is dropped."""

    def __init__(self, path: Path | None, *, resume_after: int | None = None) -> None:
        """Open a journal. `path`: its file; None writes nothing, as all processes but the first do. `resume_after`:
        keep the events up to this step; None begins a new journal. Raises OutputError: it cannot be read or written."""
        self._path, self._handle = path, -1
        if path is None:
            return
        kept = []
        if resume_after is not None:
            kept = [event for event in read_journal(path) if event.get("step", 0) <= resume_after]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, lines_of(kept))
            self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise cannot_be_written(path, error) from error

    def write(self, event: str, **values: Any) -> None:
        """Add one event. JSON has no word for NaN and infinity, so they become null.
        Raises OutputError: the disk refuses."""
        if self._path is None:
            return
        try:
            write_whole(self._handle, lines_of([{"event": event, **values}]))
        except OSError as error:
            raise cannot_be_written(self._path, error) from error

    def close(self) -> None:
        """End the journal."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The events of a journal, none where there is no journal; see `read_records`."""
    return read_records(path, lambda v: _KINDS.get(_Event.model_validate(v).event, _Event).model_validate(v))
