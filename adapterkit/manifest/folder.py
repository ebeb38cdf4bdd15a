"""The files of an artifact's folder, read without trust.

A folder is opened once and its files are opened relative to it, so one read sees one folder even while a save swaps
another into its place; where that save has removed the old one meanwhile, the new one is read. Every file is read once
into memory, after its size was checked, and everything is taken from those bytes; nothing is mapped and nothing is
read twice.
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from adapterkit.errors import ArtifactError

MANIFEST = "adapterkit.json"
CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"
CARD = "README.md"

MAX_BYTES: Mapping[str, int] = {MANIFEST: 8 << 20, CONFIG: 1 << 20, TENSORS: 2 << 30, CARD: 1 << 20}
"""The files of an artifact, and the most bytes that each may have."""

REPORT = "report.html"
"""The page about a run, which stands beside its artifact and is no part of it."""

FINDINGS = "findings.html"
"""The page of everything that was found about an artifact since; the model card links it."""

SIGNATURE = "signature.json"
"""Who vouches for the artifact that it stands beside; no part of it, and opened only by who asks for it."""

MAX_SIGNATURE_BYTES = 1 << 16

RECORDS = "records"
"""The folder for records of what was found about an artifact."""

IGNORED_FILES = frozenset(
    {".gitattributes", ".gitignore", "LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE", REPORT, FINDINGS, SIGNATURE}
)
"""Files that may stand beside them, because hubs, their users and runs put them there. They are not opened here."""

IGNORED_FOLDERS = frozenset({".cache", ".git", "training", RECORDS})
"""Folders that may stand beside them: a hub client's and git's own, the journal and checkpoints of the run, records."""

KEPT = (IGNORED_FILES - {FINDINGS, SIGNATURE}) | IGNORED_FOLDERS
"""What outlives an overwrite of the artifact: the run's journal, a licence, git's folder."""

MAX_ENTRIES = 64


@dataclass(frozen=True)
class Files:
    """The bytes of the four files of an artifact by name, and the folder where they were read."""

    folder: Path
    content: Mapping[str, bytes | bytearray]

    def sha256(self, name: str) -> str:
        """The digest of one file, 64 hex digits."""
        return sha256(self.content[name]).hexdigest()


def read_folder(folder: str | Path) -> Files:
    """Read the files of an artifact. Raises ArtifactError: with every problem: a file is missing, too large, a link or
    no plain file; or the folder holds something that an artifact does not hold."""
    folder = Path(folder)
    files, problems, replaced = _read_once(folder)
    if problems and replaced:
        files, problems, _ = _read_once(folder)
    if problems:
        raise ArtifactError(f"{folder} is not an artifact that can be read", problems, "Download or train it again.")
    return Files(folder, files)


def _read_once(folder: Path) -> tuple[dict[str, bytes | bytearray], list[str], bool]:
    """The files, what is wrong with them, and whether another folder took the place of theirs while they were read."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{folder} is not an artifact that can be read",
            [f"{folder}: {_reason(error)}, expected a folder"],
            "Give the folder of an artifact, its URL, or its name on a hub (owner/name).",
        ) from error
    content: dict[str, bytes | bytearray] = {}
    try:
        problems = _strangers(handle)
        for name, limit in MAX_BYTES.items():
            try:
                content[name] = _read(handle, name, limit)
            except FileNotFoundError:
                problems.append(f"{name}: missing")
            except OSError as error:
                problems.append(f"{name}: {_reason(error)}")
            except ArtifactError as error:
                problems += error.problems
        return content, problems, bool(problems) and not _stands_at(handle, folder)
    finally:
        os.close(handle)


def _stands_at(handle: int, folder: Path) -> bool:
    """Whether an open folder is the one that stands at a path. While it is open, no other can get its number."""
    try:
        return os.path.samestat(os.fstat(handle), folder.stat())
    except OSError:
        return True  # nothing stands there: what was found is what is said


def read_file(path: Path, limit_bytes: int) -> bytearray:
    """Read one plain file of at most `limit_bytes`, without following a link at its end.
    Raises ArtifactError: it is missing, too large, a link or no plain file."""
    try:
        handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _read(handle, path.name, limit_bytes)
        finally:
            os.close(handle)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read", [f"{path.name}: {_reason(error)}"]) from error


def _strangers(handle: int) -> list[str]:
    """Entries that an artifact does not have. A folder with very many is not listed to its end."""
    problems: list[str] = []
    with os.scandir(handle) as entries:
        for count, entry in enumerate(entries):
            if count >= MAX_ENTRIES:
                problems.append(f"the folder: more than {MAX_ENTRIES} entries, expected the {len(MAX_BYTES)} files")
                break
            plain_folder = entry.is_dir(follow_symlinks=False)
            known = entry.name in IGNORED_FOLDERS if plain_folder else entry.name in IGNORED_FILES
            if not known and entry.name not in MAX_BYTES:
                problems.append(f"{repr(entry.name)[1:-1][:80]}: not a file of an artifact; move it elsewhere")
    return problems


def _read(handle: int, name: str, limit_bytes: int) -> bytearray:
    mode = os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode
    if not stat.S_ISREG(mode):
        what = "a link" if stat.S_ISLNK(mode) else "no plain file"
        raise ArtifactError(f"{name} cannot be read", [f"{name}: {what}, expected a plain file inside the folder"])
    # O_NONBLOCK: should a pipe have taken the file's place just now, opening it must not wait for a writer.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(name, flags, dir_fd=handle), "rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes > limit_bytes:
            raise ArtifactError(
                f"{name} cannot be read", [f"{name}: {size_bytes:,} bytes, expected at most {limit_bytes:,}"]
            )
        # Memory that may be written to, so that tensors can be made of it without another copy.
        raw = bytearray(size_bytes + 1)
        found_bytes = file.readinto(raw)
    if found_bytes != size_bytes:
        raise ArtifactError(f"{name} cannot be read", [f"{name}: it changed while it was read"])
    del raw[size_bytes:]
    return raw


def _reason(error: OSError | ValueError) -> str:
    return error.strerror or "cannot be opened" if isinstance(error, OSError) else "not a path"
