"""Where adapterkit keeps what it can compute again, in folders that nobody else can write to or read."""

import contextlib
import errno
import os
import stat
import sys
import uuid
from pathlib import Path

SECRET_BYTES = 32


def cache_folder() -> Path:
    """$ADAPTERKIT_CACHE, else a folder in the system's folder for caches. It need not exist."""
    named = os.environ.get("ADAPTERKIT_CACHE")
    if named:
        return Path(named)
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "adapterkit"
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "adapterkit" / "cache"
    home = Path(os.path.expanduser("~"))
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "adapterkit"


def private_folder(folder: Path) -> Path:
    """Make a folder, or take one that is there, in which only this user can read and write.

    What is kept is believed later on, and texts of the user's can be told from it. So the folder has to be the user's
    own, is closed to everybody else, and no folder above it may be one from which others could move it away. Raises
    OSError: it cannot be made, or it is not private; names the folder that is at fault.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not hasattr(os, "geteuid"):
        return folder  # Windows keeps a user's folder from others by itself
    me, real = os.geteuid(), folder.resolve()
    for place in (real, *real.parents):
        facts = place.stat()
        if facts.st_uid not in ((me,) if place == real else (me, 0)):
            raise PermissionError(errno.EACCES, f"it belongs to user {facts.st_uid}, not to {me}", str(place))
        others = stat.S_IMODE(facts.st_mode) & (stat.S_IWGRP | stat.S_IWOTH)
        if others and place != real and not facts.st_mode & stat.S_ISVTX:
            mode = stat.S_IMODE(facts.st_mode)
            raise PermissionError(errno.EACCES, f"others can write to it (mode {mode:o})", str(place))
    if stat.S_IMODE(real.stat().st_mode) & 0o077:
        real.chmod(0o700)
    return folder


def secret(name: str) -> bytes:
    """32 random bytes of this user, in a private folder of the cache folder; made when first asked for.

    Raises OSError: they can neither be read nor be made.
    """
    path = private_folder(cache_folder() / "keys") / name
    if not path.exists():
        made = path.with_name(f".{name}.{uuid.uuid4().hex}")
        made.touch(mode=0o600)
        try:
            made.write_bytes(os.urandom(SECRET_BYTES))
            with contextlib.suppress(FileExistsError):  # another process was first
                os.link(made, path)
        finally:
            made.unlink()
    with open(open_private(path), "rb") as stream:
        found = stream.read(SECRET_BYTES + 1)
    if len(found) != SECRET_BYTES:
        raise OSError(errno.EIO, f"it holds {len(found)} bytes, expected {SECRET_BYTES}; remove it", str(path))
    return found


def kept_text(path: Path, most: int) -> str | None:
    """What `keep_text` wrote there, `most` characters of it; None where there is nothing that can be believed."""
    try:
        private_folder(path.parent)
        with open(open_private(path), encoding="utf-8") as stream:
            return stream.read(most)
    except (OSError, ValueError):
        return None


def keep_text(path: Path, text: str) -> None:
    """Write a text for the next time, whole or not at all. A disk that takes nothing costs time, never an answer."""
    with contextlib.suppress(OSError):
        made = private_folder(path.parent) / f".{path.name}.{uuid.uuid4().hex}"
        try:
            made.write_text(text, encoding="utf-8")
            made.replace(path)
        finally:
            made.unlink(missing_ok=True)


def open_private(path: Path) -> int:
    """A descriptor of a plain file of this user, for reading. It never waits, and follows no link.

    Raises OSError: it is missing, no plain file, a link, or somebody else's.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    handle = os.open(path, flags)
    facts = os.fstat(handle)
    if not stat.S_ISREG(facts.st_mode) or (hasattr(os, "geteuid") and facts.st_uid != os.geteuid()):
        os.close(handle)
        what = "no plain file" if not stat.S_ISREG(facts.st_mode) else f"a file of user {facts.st_uid}"
        raise PermissionError(errno.EACCES, f"it is {what}", str(path))
    return handle
