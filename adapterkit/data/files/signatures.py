"""What a file is that holds no rows which can be read here, by its first bytes."""

import zipfile
from pathlib import Path

EXCEL_WAY_OUT = (
    'Save it as CSV ("CSV UTF-8"), or hand its rows over from memory: '
    'adapterkit.train(recipe, data={"train": pandas.read_excel("…")})'
)
ARROW_WAY_OUT = (
    "Save it as Parquet, or hand its rows over from memory: "
    'adapterkit.train(recipe, data={"train": datasets.load_from_disk("…")})'
)

_SIGNATURES = {
    b"PAR1": ("a Parquet file", "Name its format: data.format=parquet"),
    b"ARROW1": ("an Arrow file", ARROW_WAY_OUT),
    b"\xff\xff\xff\xff": ("an Arrow stream", ARROW_WAY_OUT),
    b"\x89PNG": ("a PNG image", ""),
    b"\xff\xd8\xff": ("a JPEG image", ""),
    b"GIF8": ("a GIF image", ""),
    b"%PDF": ("a PDF document", "Take its text out first."),
    b"\xd0\xcf\x11\xe0": ("an Excel or Word document", EXCEL_WAY_OUT),
    b"PK\x05\x06": ("an empty ZIP archive", ""),
    b"Rar!": ("a RAR archive", "Unpack it and name what comes out."),
    b"7z\xbc\xaf": ("a 7-Zip archive", "Unpack it and name what comes out."),
    b"SQLite format 3": ("an SQLite database", "Write the table as CSV or JSON lines."),
    b"\x80\x04\x95": ("a Python pickle", "A pickle may run code, so none is read. Write the rows as JSON lines."),
    b"\x80\x05\x95": ("a Python pickle", "A pickle may run code, so none is read. Write the rows as JSON lines."),
    b"\x1f\x8b": ("a gzip archive inside the archive", "Unpack it once."),
    b"\x28\xb5\x2f\xfd": ("a Zstandard archive inside the archive", "Unpack it once."),
    b"\xfd7zXZ": ("an xz archive inside the archive", "Unpack it once."),
}


def recognise(head: bytes, path: Path | None = None) -> tuple[str, str] | None:
    """What a file that begins with these bytes is, with the way out; None where it may be text.

    What a ZIP archive is shows at its end: `path` is the file, where it is not packed.
    """
    if head.startswith(b"PK\x03\x04"):
        return _zip(path)
    for signature, found in _SIGNATURES.items():
        if head.startswith(signature):
            return found
    if head[257:262] == b"ustar":
        return "a tar archive", "Unpack it and name the folder."
    return None


def _zip(path: Path | None) -> tuple[str, str]:
    """Excel's and OpenDocument's files are ZIP archives too."""
    names: set[str] = set()
    if path is not None:
        try:
            with zipfile.ZipFile(path) as archive:
                names = set(archive.namelist()[:1000])
        except (OSError, zipfile.BadZipFile, ValueError):
            pass
    if "xl/workbook.xml" in names:
        return "an Excel workbook", EXCEL_WAY_OUT
    if "mimetype" in names and "content.xml" in names:
        return "an OpenDocument file", EXCEL_WAY_OUT
    return "a ZIP archive", "Unpack it and name what comes out."
