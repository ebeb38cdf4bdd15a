"""Text files as numbered lines: decoded as UTF-8, plain or gzip, and refused early where they are something else."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from adapterkit.data.problems import Problems
from adapterkit.errors import DataError

_SIGNATURES = {
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"\xff\xff\xff\xff": "an Arrow stream",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive (or an office document)",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"SQLite format 3": "an SQLite database",
    b"\x80\x04\x95": "a Python pickle",
    b"\x80\x05\x95": "a Python pickle",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}
_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_SNIFFED_BYTES = 4096


def recognise(head: bytes) -> str | None:
    """What a file that begins with these bytes is, or None where it may be text."""
    for signature, name in _SIGNATURES.items():
        if head.startswith(signature):
            return name
    return "binary data or text in UTF-16" if b"\x00" in head else None


def file_head(path: Path) -> bytes:
    """The first bytes, as stored."""
    with path.open("rb") as file:
        return file.read(_SNIFFED_BYTES)


def _open(path: Path) -> BinaryIO:
    """The file's bytes, unpacked where it is gzip, whatever its name says."""
    return gzip.open(path, "rb") if file_head(path).startswith(_GZIP) else path.open("rb")  # type: ignore[return-value]


def read_lines(path: Path, expected: str, problems: Problems) -> Iterator[tuple[int, str]]:
    r"""(1-based number, text) of every line, without its end (\n or \r\n). A byte order mark at the start is dropped.

    Lines that are not UTF-8 become a problem each, and come with the bad bytes replaced so that readers of records
    that span lines keep their place.

    Args:
        expected: what the file should be, for the error, such as "JSON lines".

    Raises:
        DataError: the file is empty, of another format, or a broken gzip archive.
    """
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty", ["found: 0 bytes", f"expected: {expected}"])
    try:
        with _open(path) as file:
            head = file.read(_SNIFFED_BYTES)
            found = recognise(head)
            if found:
                raise DataError(
                    f"{path} is not {expected}",
                    [f"found: {found}", f"expected: {expected}, in UTF-8"],
                    "Convert the file, or name its format: data.format=…",
                )
            file.seek(0)
            for number, raw in enumerate(file, start=1):
                line = raw.removeprefix(_BOM) if number == 1 else raw
                line = line.removesuffix(b"\n").removesuffix(b"\r")
                try:
                    yield number, line.decode("utf-8")
                except UnicodeDecodeError as error:
                    byte = line[error.start]
                    problems.add(
                        f"line {number}", f"not UTF-8: byte 0x{byte:02x} at byte {error.start + 1} of the line"
                    )
                    yield number, line.decode("utf-8", "replace")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path} is a damaged gzip archive", [f"found: {error}"], "Fetch or pack the file again."
        ) from error
