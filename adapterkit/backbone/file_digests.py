"""What a checkpoint's files are: SHA-256 over spans of them, in several threads, remembered for as long as the files
stay what they are; and whether they still are what a backbone was loaded from."""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from adapterkit.backbone.files import weight_files
from adapterkit.errors import BackboneError
from adapterkit.own_folder import cache_folder, keep_text, kept_text

PIECE_BYTES = 8 << 20
"""A longer span is cut into pieces of this size, so that several threads can hash one tensor."""

SETTLED_NS = 2_000_000_000
"""A file that was changed less than this before it was read may change again without another time: clocks of file
systems tick in milliseconds, some in seconds. Its digest is not remembered."""

_READ_BYTES = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")

Identity = tuple[int, int, int, int, int]
"""Device, inode, size, and the times of the last change of content and of facts, in nanoseconds."""


@dataclass(frozen=True)
class FileSpan:
    """A stretch of a file."""

    file: Path
    start: int
    size_bytes: int


def digests(spans: Sequence[FileSpan]) -> list[bytes]:
    """SHA-256 of every span; of one longer than a piece, over the digests of its pieces. hashlib and the reading let go
    of Python's lock, so the threads run side by side.

    Raises OSError: a file cannot be read; EOFError: a file ends before its span; its name is the argument.
    """
    pieces = [piece for span in spans for piece in _pieces(span)]
    with ThreadPoolExecutor(_cores(), thread_name_prefix="adapterkit-hash") as threads:
        found = iter(list(threads.map(_digest, pieces)))
    joined = []
    for span in spans:
        own = [next(found) for _ in _pieces(span)]
        joined.append(own[0] if len(own) == 1 else hashlib.sha256(b"".join(own)).digest())
    return joined


def identity(file: Path) -> Identity:
    """What changes whenever a file's content does, short of setting the system's clock back. Links are followed."""
    facts = file.stat()
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


_READ = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.py", "*/config.json")
"""What is read of a checkpoint beside its weights."""


@dataclass(frozen=True)
class LoadedFiles:
    """The files of a checkpoint at one moment: its folder, and name in it -> what changes with the file's content."""

    folder: Path
    identities: Mapping[str, Identity]

    @classmethod
    def of(cls, folder: Path) -> Self:
        """The files as they are now.
        Raises BackboneError: an index of weights that is damaged, or a file that cannot be looked at."""
        try:
            files = {*weight_files(folder), *(file for pattern in _READ for file in folder.glob(pattern))}
            return cls(folder, {str(file.relative_to(folder)): identity(file) for file in files if file.is_file()})
        except OSError as error:
            raise BackboneError(f"{folder} cannot be read", [str(error)], "Load the backbone again.") from error

    def check(self) -> None:
        """Check that nothing was changed, added or taken away since. Raises BackboneError: names the files."""
        now = LoadedFiles.of(self.folder).identities
        changed = sorted(name for name in {*now, *self.identities} if now.get(name) != self.identities.get(name))
        words = {(True, True): "written since", (True, False): "new", (False, True): "gone"}
        if changed:
            raise BackboneError(
                f"{self.folder} has changed since the backbone began to be loaded from it",
                [f"{name}: {words[name in now, name in self.identities]}" for name in changed[:8]],
                "Load the backbone again, once nobody writes to it.",
            )


def remembered(what: str, files: Iterable[Path], compute: Callable[[], str]) -> str:
    """A digest over files, from the user's cache folder if it was computed before from these very files.
    `what`: says which digest it is; other words, another entry. `compute`: gives it, in 64 hexadecimal digits. Raises
    OSError: a file is not there."""
    identities = [identity(file) for file in files]
    key = hashlib.sha256(json.dumps([what, identities]).encode()).hexdigest()
    entry = cache_folder() / "fingerprints" / key
    if _DIGEST.fullmatch(kept := kept_text(entry, 65) or ""):
        return kept
    begun = time.time_ns()
    digest = compute()
    if all(begun - max(times[3:]) > SETTLED_NS for times in identities):
        keep_text(entry, digest)
    return digest


def _pieces(span: FileSpan) -> list[FileSpan]:
    starts = range(0, max(1, span.size_bytes), PIECE_BYTES)
    return [FileSpan(span.file, span.start + at, min(PIECE_BYTES, span.size_bytes - at)) for at in starts]


def _digest(span: FileSpan) -> bytes:
    digest = hashlib.sha256()
    memory = memoryview(bytearray(min(_READ_BYTES, span.size_bytes)))
    left = span.size_bytes
    with span.file.open("rb", buffering=0) as stream:
        stream.seek(span.start)
        while left:
            count = stream.readinto(memory[: min(left, _READ_BYTES)])
            if not count:
                raise EOFError(str(span.file))
            digest.update(memory[:count])
            left -= count
    return digest.digest()


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1
