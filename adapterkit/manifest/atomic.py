"""A folder appears whole or not at all.

The files are written into a hidden folder beside the wanted one, flushed to the disk, and moved into place in one
step. A crash leaves what stood there before, or the new folder, and at worst a hidden folder that the next save
removes.
"""

import contextlib
import ctypes
import errno
import fcntl
import glob
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from adapterkit.errors import OutputError

_MARK = ".adapterkit-saving-"
_OLD = "old"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def write_folder(
    folder: Path, files: Mapping[str, bytes | bytearray], *, overwrite: bool = False, keep: Iterable[str] = ()
) -> None:
    """Write a folder with exactly these files.

    Args:
        folder: where it shall stand. Folders above it are made.
        files: name -> bytes.
        overwrite: whether a folder that stands there is replaced.
        keep: entries of a folder that stands there which are carried into the new one, and which are not in the way.

    Raises:
        OutputError: something stands there and `overwrite` is off, it is not a folder, or the disk refuses.
    """
    with stage_folder(folder, overwrite=overwrite, keep=keep) as stage:
        for name, content in files.items():
            (stage / name).write_bytes(content)


@contextlib.contextmanager
def stage_folder(folder: Path, *, overwrite: bool = False, keep: Iterable[str] = ()) -> Iterator[Path]:
    """A hidden folder to write files into, which takes the place of `folder` when the block ends without an exception.

    Args and errors as of `write_folder`; an OSError of the block counts as one of the disk.
    """
    kept = frozenset(keep)
    _check_free(folder, overwrite, kept)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        with _staging(folder) as stage:
            yield stage
            for file in sorted(stage.iterdir()):
                _flush(file)
            for name in sorted(kept):
                _link(folder / name, stage / name)
            _flush(stage)
            _move(stage, folder)
            # The folder stands there, whole. Should the disk refuse now, a power cut could still take the move back,
            # and leave what stood there before; no program sees anything half-written.
            with contextlib.suppress(OSError):
                _flush(folder.parent)
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written",
            [f"{error.filename or folder}: {error.strerror or error}"],
            "What stood there before is unchanged. Free some space or choose another output.",
        ) from error


def check_output(folder: str | Path, *, overwrite: bool = False, keep: Iterable[str] = ()) -> None:
    """Find out before hours of work whether a folder may be written. Raises OutputError as `write_folder` does."""
    folder = Path(folder)
    _check_free(folder, overwrite, frozenset(keep))
    there = next((place for place in folder.parents if place.exists()), folder.parent)
    try:
        os.rmdir(tempfile.mkdtemp(prefix=_stage_prefix(folder), dir=there))
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written", [f"{there}: {error.strerror or error}"], "Choose another output."
        ) from error


def _check_free(folder: Path, overwrite: bool, kept: frozenset[str]) -> None:
    remedy = "Choose another output, or pass overwrite=True (on the command line: --overwrite)."
    try:
        found = sorted(entry.name for entry in os.scandir(folder))
    except FileNotFoundError:
        if folder.is_symlink():
            raise OutputError(f"{folder} is a link that leads nowhere", remedy="Choose another output.") from None
        return
    except (OSError, ValueError) as error:  # a NUL in it makes it no path
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise OutputError(f"{folder} cannot be written", [f"{folder}: {reason}"], "Choose another output.") from error
    if folder.is_symlink():
        raise OutputError(f"{folder} is a link to a folder", remedy="Give the folder that it leads to.")
    in_the_way = [name for name in found if name not in kept]
    if in_the_way and not overwrite:
        shown = ", ".join(in_the_way[:5]) + (" …" if len(in_the_way) > 5 else "")
        raise OutputError(f"{folder} exists", [f"{folder}: holds {shown}, expected nothing there"], remedy)


@contextlib.contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A locked hidden folder beside `folder`, gone afterwards whatever happens. The lock says that its owner lives."""
    stage = Path(tempfile.mkdtemp(prefix=_stage_prefix(folder), dir=folder.parent))
    handle = os.open(stage, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        inner = stage / "new"
        inner.mkdir()
        yield inner
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        os.close(handle)


def _stage_prefix(folder: Path) -> str:
    return f".{folder.name}{_MARK}"


def _remove_leftovers(folder: Path) -> None:
    """Remove what saves of this folder that were killed have left behind; an old folder that one took is put back."""
    for stale in folder.parent.glob(f".{glob.escape(folder.name)}{_MARK}*"):
        with contextlib.suppress(OSError):
            handle = os.open(stale, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if (stale / _OLD).is_dir() and not folder.exists():
                    os.rename(stale / _OLD, folder)
                shutil.rmtree(stale, ignore_errors=True)
            finally:
                os.close(handle)


def _link(source: Path, target: Path) -> None:
    """Carry a file or folder over without copying its bytes, where the file system can."""
    if source.is_symlink() or not source.exists():
        return
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link_file, symlinks=True)
    else:
        _link_file(source, target)


def _link_file(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _flush(path: Path) -> None:
    """Make the disk keep a file, or the entries of a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _move(stage: Path, folder: Path) -> None:
    """Put `stage` in the place of `folder`; the old folder ends where the stage was, and is removed with it."""
    if not folder.exists():
        os.rename(stage, folder)
    elif not any(folder.iterdir()):
        os.rename(stage, folder)  # over an empty folder, rename is one step everywhere
    elif not _exchange(stage, folder):
        # No exchange on this system: for a moment nothing stands at `folder`, and the old one waits beside it.
        old = stage.parent / _OLD
        os.rename(folder, old)
        try:
            os.rename(stage, folder)
        except OSError:
            os.rename(old, folder)
            raise


def _exchange(first: Path, second: Path) -> bool:
    """Swap two folders in one step (renameat2 of Linux). False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return False
    if function(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(second))


def write_file(path: Path, content: bytes, *, mode: int = 0o644, new: bool = False, beside: Path | None = None) -> bool:
    """Write one file: the old content or the new, never half of it.

    Args:
        mode: of a file that is made.
        new: leave what stands there as it is, and return False.
        beside: what it is prepared beside, where its own folder may not even hold it for a moment.

    Raises:
        OutputError: the disk refuses; what stood there before is unchanged.
    """
    stage = Path(os.path.abspath(beside or path)).parent / f".{path.name}.{uuid.uuid4().hex}.new"
    try:
        with open(os.open(stage, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        (os.link if new else os.replace)(stage, path)
    except FileExistsError:
        return False
    except OSError as error:
        raise OutputError(f"{path} cannot be written", [f"{path}: {error.strerror or error}"]) from error
    finally:
        with contextlib.suppress(OSError):
            stage.unlink(missing_ok=True)
    return True
