"""Text files: their encoding found, decoded piece by piece into numbered lines or into pieces of a document."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

from adapterkit.data.files.compression import PACKED, open_unpacked, packing_of
from adapterkit.data.files.signatures import recognise
from adapterkit.data.problems import Problems
from adapterkit.errors import DataError

HEAD_BYTES = 2**18
"""How much of a file is looked at to find out what it is."""

LONGEST_LINE_BYTES = 2**27
"""A line is held in memory as a whole, so what has none is refused here."""

_PIECE_BYTES = 2**20
_OTHER_ENCODING = (
    "Convert the file to UTF-8, or name its encoding (--encoding cp1252, data.encoding=cp1252 in a recipe)."
)
_BOMS = {  # the longer first: UTF-32's begins as UTF-16's
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_SHOWN = {"utf-8": "UTF-8", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16", "utf-32-le": "UTF-32", "utf-32-be": "UTF-32"}


@dataclass(frozen=True)
class TextFile:
    """A text file that was looked at."""

    path: Path
    packing: str
    """How it is packed, or ""."""
    encoding: str
    """Python's name of its encoding."""
    bom_bytes: int
    """Length of the byte order mark at its beginning."""
    ends: str
    """ "\r" where its lines end so (as on old Macs), else "\n", which stands for "\r\n" too."""
    head: str
    """Its beginning, decoded, what cannot be decoded replaced."""
    whole: bool
    """Whether the head is all of it."""
    doubt: str = ""
    """Why the encoding that was asked for may be wrong, or ""."""

    @property
    def notes(self) -> list[str]:
        """What its name does not say."""
        notes = [self.packing] if self.packing and self.path.suffix.lower() not in PACKED else []
        notes += [] if self.encoding == "utf-8" else [f"in {_SHOWN.get(self.encoding, self.encoding)}{self.doubt}"]
        return notes + (["with lines that end in a carriage return"] if self.ends == "\r" else [])

    @property
    def bare(self) -> Self:
        """The same without its head, to be kept while many files are read."""
        return replace(self, head="")

    def lines(self, problems: Problems, *, keep_ends: bool = False) -> Iterator[tuple[int, str]]:
        r"""(1-based number, text) of every line, without its end (\n or \r\n) unless that is asked for.

        Lines that cannot be decoded, or that hold a NUL, become a problem each, and come with the bad bytes replaced so
        that readers of records that span lines keep their place. Raises DataError: a line that is longer than
        `LONGEST_LINE_BYTES`."""
        plain = self.encoding == "utf-8" and self.ends == "\n"
        for number, text in enumerate(self._plain_lines(problems) if plain else self._decoded_lines(), start=1):
            if "\x00" in text:
                problems.add(f"line {number}", f"a NUL at character {text.index(chr(0)) + 1}, which no text holds")
            yield number, text if keep_ends else text.removesuffix("\n").removesuffix("\r")

    def pieces(self) -> Iterator[str]:
        """The text in pieces, for what goes across lines. Raises DataError: what cannot be decoded, with its line."""
        decoder = codecs.getincrementaldecoder(self.encoding)()
        line = 1
        with open_unpacked(self.path) as file:
            file.read(self.bom_bytes)
            while True:
                piece = file.read(_PIECE_BYTES)
                try:
                    text = decoder.decode(piece, final=not piece)
                except UnicodeDecodeError as error:
                    line += error.object[: error.start].decode(self.encoding, "replace").count("\n")
                    problem = f"line {line}: {self._undecodable(error, ends=not piece)}"
                    raise DataError(f"{self.path} cannot be read", [problem], _OTHER_ENCODING) from error
                if "\x00" in text:
                    raise DataError(
                        f"{self.path} cannot be read",
                        [f"line {line + text[: text.index(chr(0))].count(chr(10))}: a NUL, which no text holds"],
                    )
                line += text.count("\n")
                yield text.replace("\r", "\n") if self.ends == "\r" else text
                if not piece:
                    return

    def _plain_lines(self, problems: Problems) -> Iterator[str]:
        with open_unpacked(self.path) as file:
            file.read(self.bom_bytes)
            for number, line in enumerate(iter(partial(file.readline, LONGEST_LINE_BYTES + 1), b""), start=1):
                if len(line) > LONGEST_LINE_BYTES:
                    raise self._too_long(number)
                try:
                    text = line.decode("utf-8")
                except UnicodeDecodeError as error:
                    told = self._undecodable(error, ends=error.end == len(line))
                    problems.add(f"line {number}", told, _OTHER_ENCODING)
                    text = line.decode("utf-8", "replace")
                yield text

    def _decoded_lines(self) -> Iterator[str]:
        rest, number = "", 1
        for piece in self.pieces():
            *whole, rest = (rest + piece).split("\n")
            for line in whole:
                yield line + "\n"
            number += len(whole)
            if len(rest) > LONGEST_LINE_BYTES:
                raise self._too_long(number)
        if rest:
            yield rest

    def _undecodable(self, error: UnicodeDecodeError, *, ends: bool) -> str:
        byte = error.object[error.start]
        if ends and error.reason == "unexpected end of data" and self.encoding == "utf-8":
            return f"not UTF-8: the file ends inside a character (byte 0x{byte:02x}), so it was cut off"
        start = error.object.rfind(b"\n", 0, error.start) + 1
        around = error.object[max(start, error.start - 12) : error.start + 12].split(b"\n")[0].strip()
        shown = _SHOWN.get(self.encoding, self.encoding)
        hint = f"; in cp1252 it would read {around.decode('cp1252', 'replace')!r}" if self.encoding == "utf-8" else ""
        return f"not {shown}: byte 0x{byte:02x} at byte {error.start - start + 1} of the line{hint}"

    def _too_long(self, number: int) -> DataError:
        return DataError(
            f"{self.path} has a line that is too long",
            [f"line {number}: found more than {LONGEST_LINE_BYTES:,} bytes, expected at most that"],
            "Give each row a line, or name the format that the file has: data.format=…",
        )


def look_at(path: Path, expected: str = "a text file", encoding: str = "auto") -> TextFile:
    """Find out how a text file, that should be what is `expected`, is packed and encoded.

    "auto" goes by the byte order mark or by the zeros of UTF-16, and is UTF-8 elsewhere. Raises DataError: the file is
    empty, of another format, or a broken archive.
    """
    packing = packing_of(path)
    with open_unpacked(path) as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise DataError(f"{path} is empty", ["found: 0 bytes", f"expected: {expected}"])
    bom, named = next(((mark, name) for mark, name in _BOMS.items() if head.startswith(mark)), (b"", ""))
    if not bom and (found := recognise(head, None if packing else path)):
        raise wrong(path, found, expected)
    asked = "" if encoding == "auto" else codecs.lookup(encoding).name
    if named and asked and not named.startswith(asked):
        raise DataError(
            f"{path} is not in {asked}",
            [f"found: the byte order mark of {_SHOWN[named]}", f"expected: {asked} (data.encoding)"],
            "Leave data.encoding at auto.",
        )
    chosen = named or asked or _by_zeros(head) or "utf-8"
    if b"\x00" in head and not chosen.startswith(("utf-16", "utf-32")):
        place = head.index(b"\x00")
        controls = sum(head.count(bytes([code])) for code in range(32) if code not in (9, 10, 12, 13, 27))
        if b"\n" not in head[:place] or controls > max(4, len(head) // 100):
            raise wrong(path, (f"binary data (a NUL at byte {place + 1})", ""), expected)
    text = head[len(bom) :].decode(chosen, "replace")
    whole = len(head) < HEAD_BYTES
    ends = "\r" if "\n" not in text and "\r" in text.rstrip("\r") else "\n"
    return TextFile(path, packing, chosen, len(bom), ends, text, whole, _doubt(head, chosen))


def wrong(path: Path, found: tuple[str, str], expected: str) -> DataError:
    """The error for a file that is something else."""
    what, way_out = found
    return DataError(
        f"{path} is not {expected}",
        [f"found: {what}", f"expected: {expected}"],
        way_out or "Convert the file, or name its format: data.format=…",
    )


def _by_zeros(head: bytes) -> str:
    """UTF-16 without a byte order mark: in most texts many high bytes are zero and no low one is."""
    pairs = len(head) // 2
    if pairs < 4:
        return ""
    even, odd = head[0 : 2 * pairs : 2].count(0), head[1 : 2 * pairs : 2].count(0)
    for zeros, others, name in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
        if zeros > pairs // 4 and others == 0:
            return name
    return ""


def _doubt(head: bytes, encoding: str) -> str:
    """Text in UTF-8 decodes in a one-byte encoding too, as other text; the reverse hardly ever happens."""
    if encoding.startswith(("utf", "ascii")) or head.isascii():
        return ""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(head)
    except UnicodeDecodeError:
        return ""
    return " as asked for, though it is valid UTF-8"
