"""A sweep's folder: what was asked for, and what every point has given so far.

    sweep.json       the definition; another one is refused
    points/NAME/     the artifacts
    rungs.jsonl      scores at which points were compared while they were trained (successive halving)
    results.jsonl    one line for every point that is done

A line is flushed to the disk; one that a crash has cut off, or that is no record, is left out.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from adapterkit.errors import ArtifactError, OutputError, SweepError
from adapterkit.manifest import parse_object, write_file
from adapterkit.manifest.record_lines import append_record, read_records
from adapterkit.training.standing import by_path

DEFINITION, RESULTS, RUNGS, PICTURE, BEST, LOCK = (
    "sweep.json",
    "results.jsonl",
    "rungs.jsonl",
    "sweep.svg",
    "best",
    ".lock",
)


class _Scored(BaseModel):
    """What is read of a point's line."""

    model_config = ConfigDict(extra="allow", strict=True)
    point: str
    metric: str
    higher_is_better: bool
    value: float | None
    steps: int
    seconds: float


class _Rung(_Scored):
    rung: int


class _Result(_Scored):
    status: Literal["done", "failed", "halved"]
    rows_key: str
    digests: dict[str, str]
    backbone_key: str
    fingerprint: str | None


class Ledger:
    """Reads and writes the files of one sweep."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self, definition: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """See whether the folder is new, or holds the same sweep, which was stopped; or any, where it is overwritten.
        Raises SweepError: another sweep stands there; names what differs; OutputError: something else stands there."""
        path = self.folder / DEFINITION
        if path.is_file():
            if not overwrite:
                self._compare(path, definition)
            return
        strangers = sorted(entry.name for entry in self.folder.iterdir() if entry.name != LOCK)
        if strangers:
            raise OutputError(
                f"{self.folder} exists, and holds no sweep",
                [f"{self.folder}: holds {', '.join(strangers[:5])}, expected nothing or {DEFINITION}"],
                "Choose another folder: output=…",
            )

    def begin(self, definition: Mapping[str, Any]) -> None:
        """Write the definition, unless it stands there. Raises OutputError where the disk refuses."""
        if not (self.folder / DEFINITION).is_file():
            text = json.dumps(definition, indent=1, ensure_ascii=False) + "\n"
            write_file(self.folder / DEFINITION, text.encode())

    def _compare(self, path: Path, wanted: Mapping[str, Any]) -> None:
        try:
            there = parse_object(path.read_bytes(), path.name)
        except (OSError, ArtifactError) as error:
            raise SweepError(f"{path} cannot be read", [str(error)], "Begin anew: --overwrite.") from error
        before, now = by_path(there), by_path(json.loads(json.dumps(wanted)))
        differences = [
            f"{path}: begun with {json.dumps(before.get(path))}, found {json.dumps(now.get(path))}"
            for path in sorted(before.keys() | now.keys())
            if before.get(path) != now.get(path)
        ]
        if differences:
            raise SweepError(
                f"{self.folder} holds another sweep ({len(differences)} differences)",
                differences[:24],
                "Go on with what it was begun with, choose another folder (output=…), or begin anew: --overwrite.",
            )

    def results(self) -> dict[str, dict[str, Any]]:
        """Point -> its line in results.jsonl."""
        return {line["point"]: line for line in read_records(self.folder / RESULTS, _Result.model_validate)}

    def rungs(self) -> dict[tuple[int, str], dict[str, Any]]:
        """(rung, point) -> its line in rungs.jsonl."""
        lines = read_records(self.folder / RUNGS, _Rung.model_validate)
        return {(line["rung"], line["point"]): line for line in lines}

    def add_result(self, line: Mapping[str, Any]) -> None:
        """A point is done. Raises OutputError where the disk refuses."""
        append_record(self.folder / RESULTS, line)

    def add_rung(self, line: Mapping[str, Any]) -> None:
        """A point was scored while it was trained. Raises OutputError where the disk refuses."""
        append_record(self.folder / RUNGS, line)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes out meanwhile. Raises OutputError where one is at work, or the disk refuses."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise OutputError(
                f"{self.folder} cannot be written", [f"{self.folder}: {error.strerror}"], "Choose another folder."
            ) from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OutputError(
                    f"another process is at work on the sweep in {self.folder}", remedy="Wait for it, or stop it."
                ) from error
            yield
        finally:
            os.close(handle)
