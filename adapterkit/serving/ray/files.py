"""A file of rows, answered by a pool of hosts under Ray Data: in its order, and on from where it was stopped."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from adapterkit.errors import DataError, OutputError, ServingError
from adapterkit.manifest import write_file
from adapterkit.recipe.reading import reading_settings
from adapterkit.serving.ray.settings import Hosting as Hosting
from adapterkit.serving.ray.settings import sha256_of

CHUNK_ROWS = 512
"""Rows that a host answers together. Fixed, so that the last bits of numbers depend on no pool and no restart."""
SHOWN = 20
_ERROR = b'{"error": {'


@dataclass(frozen=True)
class FileAnswered:
    """What became of a file: how many rows, how many with an error for an answer, the first of these by their rows."""

    rows: int
    bad: int
    problems: tuple[str, ...]


def answer_file(
    hosting: Hosting,
    rows: str | Path,
    output: str | Path,
    *,
    reading: Mapping[str, Any] | None = None,
    skip: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> FileAnswered:
    """Answer every row of a file, one line of JSON each, in the order of the rows.

    Answers are kept in `OUTPUT.part` until the last is there. Called again with the same rows, artifacts and settings
    after it was stopped or killed, it goes on there, and ends with the bytes that it would have ended with.

    Args:
        hosting: who answers.
        rows: a file that `each_row` reads: JSONL, CSV, TSV, Parquet.
        output: the file to write; it must not be there.
        reading: a recipe's fields about how files are read.
        skip: whether a bad row keeps its error as its answer. Otherwise there is no output where there is one.
        progress: told of every chunk how many rows it had.

    Raises:
        DataError: nothing came in, or rows that cannot be answered, unless they are skipped.
        OutputError: the output is there, or what was begun there is of other rows, artifacts or settings.
        ServingError: Ray is not there, or the hosts cannot answer.
    """
    rows, output = Path(rows), Path(output)
    if output.exists():
        raise OutputError(f"{output} exists", remedy="Choose another output, or remove it.")
    if not rows.is_file():
        raise DataError(f"{rows} is no file", remedy="Name a file of rows that every machine of the cluster sees.")
    settings = dict(reading or {})
    reading_settings(settings)  # says what is wrong before anything is begun
    begun = {"rows": sha256_of(rows), "reading": settings, "chunk_rows": CHUNK_ROWS, **hosting.marks()}
    with _begun(output, begun) as part:
        done = _whole_chunks(part)
        progress(done * CHUNK_ROWS)
        for lines in _chunks_answered(hosting, rows, settings, done):
            part.write(lines)
            part.flush()
            progress(lines.count(b"\n"))
        os.fsync(part.fileno())
        found = _look(part)
        if not found.rows:
            raise DataError("nothing came in", ["expected: one row per line"], "Give a file of rows.")
        if found.bad and not skip:
            more = [f"… and {found.bad - SHOWN:,} more"] if found.bad > SHOWN else []
            raise DataError(
                f"{found.bad:,} of {found.rows:,} rows cannot be answered",
                [*found.problems, *more],
                "Correct them; or skip them, which keeps what was answered: --errors skip.",
            )
        os.rename(_kept(output), output)
        _head(output).unlink()
    return found


def _chunks_answered(hosting: Hosting, rows: Path, reading: Mapping[str, Any], done: int) -> Iterator[bytes]:
    """The lines of every chunk that is not done, in order."""
    try:
        from adapterkit.serving.ray import pool
    except ImportError as error:
        raise ServingError("a pool of hosts needs Ray", remedy="pip install 'adapterkit[ray]'") from error
    with pool.connected():
        chunks = pool.Chunks(rows.absolute(), reading, done, CHUNK_ROWS)
        for number, lines in pool.answered(hosting, chunks):
            if number != done:
                raise ServingError(f"chunk {number} came instead of chunk {done}")
            done += 1
            yield lines


@contextmanager
def _begun(output: Path, begun: Mapping[str, Any]) -> Iterator[IO[bytes]]:
    """The part that was begun for this output, or a new one. Raises OutputError where it was begun otherwise."""
    head, part = _head(output), _kept(output)
    try:
        file = part.open("a+b")
    except OSError as error:
        raise OutputError(f"{output} cannot be written", [error.strerror or str(error)], "Choose another.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(f"{part} is being written by another process") from error
        known = json.loads(head.read_bytes()) if head.is_file() else {}
        wanted = json.loads(json.dumps(begun))
        differing = sorted(name for name in wanted if known and known.get(name) != wanted[name])
        if differing:
            problems = [f"{name}: other than when it was begun" for name in differing]
            raise OutputError(f"{part} was begun otherwise", problems, "Remove it, or choose another output.")
        if not known:
            file.truncate(0)
            write_file(head, json.dumps(wanted, indent=2).encode())
        yield file


def _whole_chunks(part: IO[bytes]) -> int:
    """How many chunks are there whole. What comes behind them is cut off, and answered again."""
    part.seek(0)
    lines = end = whole = 0
    for line in part:
        lines, end = lines + 1, end + len(line)
        if lines % CHUNK_ROWS == 0 and line.endswith(b"\n"):
            whole = end
    part.truncate(whole)
    return lines // CHUNK_ROWS if whole else 0


def _look(part: IO[bytes]) -> FileAnswered:
    """What stands there."""
    part.seek(0)
    rows, bad, problems = 0, 0, list[str]()
    for rows, line in enumerate(part, 1):
        if line.startswith(_ERROR) and set(found := json.loads(line)) == {"error"}:
            bad += 1
            problems += [f"row {rows}: {found['error']['message']}"] if bad <= SHOWN else []
    return FileAnswered(rows, bad, tuple(problems))


def _kept(output: Path) -> Path:
    return output.with_name(f"{output.name}.part")


def _head(output: Path) -> Path:
    return output.with_name(f"{output.name}.part.json")
