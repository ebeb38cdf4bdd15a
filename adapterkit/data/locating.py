"""Which file or data set a source's name means."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from adapterkit.data.columns import nearest
from adapterkit.errors import DataError

ROOT_VARIABLE = "ADAPTERKIT_DATA"

FORMATS = ("jsonl", "csv", "tsv", "parquet", "text", "hub")
_ENDINGS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".txt": "text",
    ".text": "text",
    ".raw": "text",
    ".md": "text",
}
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


@dataclass(frozen=True)
class Located:
    """Where rows are read from: a file (`path` is set) or a hub data set.

    Attributes:
        looked_at: the files that were looked for before the name was taken for a hub data set's.
    """

    name: str
    format: str
    path: Path | None
    looked_at: tuple[Path, ...] = ()


def locate(
    source: str | Path,
    format: str = "auto",  # noqa: A002 - the recipe's word
    root: str | Path | None = None,
    folder: str | Path | None = None,
) -> Located:
    """The file or data set that `source` names.

    An absolute path stands for itself. A relative one is looked for in this order, and the first that exists is taken:
    under `root`; under the folder that the environment variable ADAPTERKIT_DATA names; under `folder` (the recipe's);
    under the current folder. The format is the one named, else it goes by the ending (`.gz` behind it is allowed for
    text formats). A name that is no file, has no known ending and looks like `name` or `owner/name` is a hub data set.

    Raises:
        DataError: no such file (with every place that was looked at), a folder, or an ending that says no format.
    """
    name = str(source)
    if format != "auto" and format not in FORMATS:
        raise DataError(f"There is no format {format!r}{nearest(format, FORMATS)}", [f"formats: {', '.join(FORMATS)}"])
    if format == "hub":
        local = next((place for place in _candidates(name, root, folder) if place.is_dir()), None)
        return Located(str(local.resolve()) if local else name, "hub", None)
    candidates = _candidates(name, root, folder)
    path = next((place for place in candidates if place.is_file()), None)
    known = _ending(name)
    if path is None:
        if format == "auto" and known is None and _HUB_NAME.fullmatch(name) and not any(p.is_dir() for p in candidates):
            return Located(name, "hub", None, tuple(candidates))
        raise _missing(name, candidates)
    if format == "auto" and known is None:
        raise DataError(
            f"{path} has an ending that says no format",
            [f"found: {path.suffix or 'no ending'}", f"expected: {', '.join(_ENDINGS)}, text formats also with .gz"],
            f"Say what it is: data.format=… ({', '.join(FORMATS)})",
        )
    return Located(name, known or "" if format == "auto" else format, path)


def _candidates(name: str, root: str | Path | None, folder: str | Path | None) -> list[Path]:
    path = Path(name).expanduser()
    if path.is_absolute():
        return [path]
    bases = [root, os.environ.get(ROOT_VARIABLE) or None, folder, Path.cwd()]
    places = [Path(base).expanduser() / path for base in bases if base is not None]
    return list(dict.fromkeys(place if place.is_absolute() else Path.cwd() / place for place in places))


def _ending(name: str) -> str | None:
    path = Path(name.lower())
    inner = path.with_suffix("") if path.suffix == ".gz" else path
    found = _ENDINGS.get(inner.suffix)
    return None if found == "parquet" and inner is not path else found


def _missing(name: str, candidates: list[Path]) -> DataError:
    problems = []
    for place in candidates:
        if place.is_dir():
            problems.append(f"looked at: {place} (a folder; name a file in it)")
        else:
            siblings = sorted(one.name for one in place.parent.iterdir()) if place.parent.is_dir() else []
            problems.append(f"looked at: {place}{nearest(place.name, siblings)}")
    return DataError(
        f"There is no file {name}",
        problems,
        f"Give the data's folder as data.root=… or in the environment variable {ROOT_VARIABLE}, or an absolute path.",
    )
