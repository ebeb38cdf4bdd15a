"""Files as bytes, unpacked where they are gzip, Zstandard, bzip2 or xz, whatever their names say."""

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import Any

from adapterkit.errors import DataError

PACKED = {".gz": "gzip", ".zst": "Zstandard", ".bz2": "bzip2", ".xz": "xz"}
"""Ending behind a file's own -> its packing."""

UNCHECKED_BYTES = 2**26
MOST_TIMES_LARGER = 250
"""Text packs to a tenth, repetitive tables to a hundredth; what unpacks to more than this is no honest data."""

_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "Zstandard", b"BZh91AY&SY": "bzip2", b"\xfd7zXZ\x00": "xz"}


def file_head(path: Path, size_bytes: int = 4096) -> bytes:
    """The first bytes, as stored."""
    with path.open("rb") as file:
        return file.read(size_bytes)


def packing_of(path: Path) -> str:
    """The packing of a file by its first bytes, or "" where it has none."""
    head = file_head(path, 16)
    if head[:3] == b"BZh" and head[3:4].isdigit():
        head = b"BZh9" + head[4:]
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "")


def open_unpacked(path: Path) -> io.BufferedReader:
    """The file's bytes, unpacked as they are asked for.

    Raises DataError: when reading comes to where the archive is damaged, or to more than `MOST_TIMES_LARGER` its size.
    """
    packing = packing_of(path)
    if not packing:
        return path.open("rb")
    return io.BufferedReader(_Unpacked(path, packing), 2**18)


class _Unpacked(io.RawIOBase):
    """What an archive of one file holds."""

    def __init__(self, path: Path, packing: str) -> None:
        self._path, self._packing = path, packing
        self._packed_bytes = path.stat().st_size
        self._unpacked_bytes = 0
        self._inner: Any
        if packing == "Zstandard":
            import pyarrow

            self._inner = pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")
        else:
            library: Any = {"gzip": gzip, "bzip2": bz2, "xz": lzma}[packing]
            self._inner = library.open(path, "rb")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            piece = self._inner.read(len(buffer))
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise DataError(
                f"{self._path} is a damaged {self._packing} archive",
                [f"found: {str(error) or type(error).__name__}"],
                "Fetch or pack the file again.",
            ) from error
        buffer[: len(piece)] = piece
        self._unpacked_bytes += len(piece)
        most = max(UNCHECKED_BYTES, MOST_TIMES_LARGER * self._packed_bytes)
        if self._unpacked_bytes > most:
            raise DataError(
                f"{self._path} unpacks to more than its size allows",
                [f"found: more than {most:,} bytes, {MOST_TIMES_LARGER} times the archive's {self._packed_bytes:,}"],
                "If you trust the file, unpack it and name what comes out.",
            )
        return len(piece)

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()
