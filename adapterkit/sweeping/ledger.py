"""A sweep's folder: what was asked for, and what every point has given so far.

    sweep.json       the definition; another one is refused
    points/NAME/     the artifacts
    rungs.jsonl      scores at which points were compared while they were trained (successive halving)
    results.jsonl    one line for every point that is done

A line is written in one piece and flushed to the disk, and a line that a crash has cut off is dropped.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapterkit.errors import OutputError, SweepError

DEFINITION, RESULTS, RUNGS, PICTURE, BEST, LOCK = (
    "sweep.json",
    "results.jsonl",
    "rungs.jsonl",
    "sweep.png",
    "best",
    ".lock",
)


class Ledger:
    """Reads and writes the files of one sweep."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self, definition: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """See whether the folder is new, or holds the same sweep, which was stopped; or any, where it is overwritten.

        Raises:
            SweepError: another sweep stands there; names what differs.
            OutputError: something else stands there.
        """
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
        """Write the definition, unless it stands there."""
        if not (self.folder / DEFINITION).is_file():
            _write(self.folder / DEFINITION, json.dumps(definition, indent=1, ensure_ascii=False) + "\n")

    def _compare(self, path: Path, wanted: Mapping[str, Any]) -> None:
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SweepError(f"{path} cannot be read", [str(error)], "Begin anew: --overwrite.") from error
        differences = sorted(_differences(there, json.loads(json.dumps(wanted))))
        if differences:
            raise SweepError(
                f"{self.folder} holds another sweep ({len(differences)} differences)",
                differences[:24],
                "Go on with what it was begun with, choose another folder (output=…), or begin anew: --overwrite.",
            )

    def results(self) -> dict[str, dict[str, Any]]:
        """Point -> its line in results.jsonl."""
        return {line["point"]: line for line in _lines(self.folder / RESULTS)}

    def rungs(self) -> dict[tuple[int, str], dict[str, Any]]:
        """(rung, point) -> its line in rungs.jsonl."""
        return {(line["rung"], line["point"]): line for line in _lines(self.folder / RUNGS)}

    def add_result(self, line: Mapping[str, Any]) -> None:
        """A point is done."""
        _append(self.folder / RESULTS, line)

    def add_rung(self, line: Mapping[str, Any]) -> None:
        """A point was scored while it was trained."""
        _append(self.folder / RUNGS, line)

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


def _differences(there: Any, wanted: Any, path: str = "") -> Iterator[str]:
    if isinstance(there, dict) and isinstance(wanted, dict):
        for key in {*there, *wanted}:
            yield from _differences(there.get(key), wanted.get(key), f"{path}.{key}" if path else str(key))
    elif there != wanted:
        yield f"{path}: begun with {json.dumps(there)}, found {json.dumps(wanted)}"


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    for text in path.read_text(encoding="utf-8").split("\n"):
        try:
            yield json.loads(text)
        except ValueError:  # cut off by a crash
            continue


def _append(path: Path, line: Mapping[str, Any]) -> None:
    before = path.read_bytes() if path.is_file() else b""
    start = b"\n" if before and not before.endswith(b"\n") else b""
    with path.open("ab") as file:
        file.write(start + json.dumps(_finite(line), ensure_ascii=False, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _write(path: Path, text: str) -> None:
    """A file appears whole or not at all."""
    unfinished = path.with_suffix(".part")
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _finite(value: Any) -> Any:
    """JSON has no word for NaN and infinity, so they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value
