"""Files of records: a JSON object per line, added to for as long as a run takes, and read whatever a crash has left.

A crash may cut a line off anywhere, inside of a character too, and the next line may begin behind it.
"""

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from adapterkit.errors import ArtifactError, OutputError
from adapterkit.manifest.strict_json import parse_json, without_nan

logger = logging.getLogger(__name__)


def read_records(path: Path, check: Callable[[Any], object]) -> list[dict[str, Any]]:
    """The records of a file, in their order; none where there is no file.

    What is no JSON was cut off, and is left out without a word. What is JSON and no record, for which `check` raises
    ValueError, was not written here: it is left out too, and the log names its lines. Raises OutputError: the file
    cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OutputError(f"{path} cannot be read", [f"{path}: {error.strerror or error}"]) from error
    records: list[dict[str, Any]] = []
    strange = []
    for number, line in enumerate(lines, start=1):
        try:
            record = parse_json(line, path.name)
        except ArtifactError:
            continue
        try:
            check(record)
        except ValueError:
            strange.append(number)
        else:
            records.append(record)
    if strange:
        shown = ", ".join(map(str, strange[:10])) + (" …" if len(strange) > 10 else "")
        logger.warning("%s: left out what is no record of it: line %s", path, shown)
    return records


def lines_of(records: Iterable[Mapping[str, Any]]) -> bytes:
    """Records as the lines of a file."""
    return b"".join(
        json.dumps(without_nan(record), ensure_ascii=False, allow_nan=False).encode() + b"\n" for record in records
    )


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Add a line, and make the disk keep it. Raises OutputError where the disk refuses."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            size_bytes = os.fstat(handle).st_size
            cut_off = size_bytes > 0 and os.pread(handle, 1, size_bytes - 1) != b"\n"
            write_whole(handle, b"\n" * cut_off + lines_of([record]))
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise cannot_be_written(path, error) from error


def write_whole(handle: int, content: bytes) -> None:
    """Write all of it, without a buffer that would be tried again when it is closed. Raises OSError."""
    while content:
        content = content[os.write(handle, content) :]


def cannot_be_written(path: Path, error: OSError) -> OutputError:
    """The error for a file that a run adds to."""
    return OutputError(
        f"{path} cannot be written",
        [f"{path}: {error.strerror or error}"],
        "What was saved is kept. Free some space, or make the folder writable, and go on from there.",
    )
