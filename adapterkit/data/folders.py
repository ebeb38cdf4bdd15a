"""Which files of a folder, or of a pattern, hold the rows of a split."""

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapterkit.data.files.opening import format_of
from adapterkit.data.problems import listing
from adapterkit.data.split_names import split_of
from adapterkit.errors import DataError

MOST_FILES = 100_000

_WORD = re.compile(r"[a-z]+")
_ABOUT = re.compile(r"(readme|license|licence|notice|source|citation|changelog|dataset_info|state)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Located:
    """Where rows are read from: files, or a hub data set where there are none."""

    name: str
    """The source; of a hub data set its name."""
    path: Path | None
    """The file or folder that was found; None for a hub data set."""
    files: tuple[Path, ...] = ()
    """Those that hold the rows, in order."""
    notes: tuple[str, ...] = ()
    """What was chosen and what was left aside."""
    by_class: bool = False
    """Whether each file is one text, and its folder's name the label."""
    looked_at: tuple[Path, ...] = ()
    """The files that were looked for before the name was taken for a hub data set's."""


def files_of_pattern(base: Path, pattern: str) -> tuple[Path, ...]:
    """The files that a pattern names, sorted; ``**`` goes into folders."""
    found = glob.glob(pattern, root_dir=base, recursive=True)
    return tuple(path for name in sorted(found) if (path := base / name).is_file())


def files_of_folder(name: str, folder: Path, split: str, named: str, format: str) -> Located:  # noqa: A002 - the recipe's word
    """The files of a folder that hold the rows of a split, which the data set calls `named`.

    Where files or the folders in it are called after splits (train-00000.parquet, dev.csv, test/), those of the split
    are taken, else all; "auto" takes files with a known ending. Folders of text files that bear the names of classes
    give one row per file. Raises DataError: no such file, or files of several formats.
    """
    every = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    every = [path for path in every if not any(n.startswith((".", "__")) for n in path.relative_to(folder).parts)]
    if len(every) > MOST_FILES:
        raise DataError(f"{folder} holds too many files", [f"found: {len(every):,}, expected at most {MOST_FILES:,}"])
    known = [path for path in every if format != "auto" or format_of(path.name)]
    rows = [path for path in known if not _ABOUT.match(path.name)] or known
    splits = {path: _split_of(path.relative_to(folder)) for path in rows}
    begins = (f"{named}.", f"{named}-")  # of a folder in the path, or of the file: train, train.csv, train-00000.csv
    called = [path for path in rows if any(n == named or n.startswith(begins) for n in path.relative_to(folder).parts)]
    if called or any(splits.values()):
        rows = called or [path for path in rows if splits[path] == split]
    if not rows:
        others = sorted({one for one in splits.values() if one})
        found = f"files of {', '.join(others)}" if others else f"{len(every)} files, none with a known ending"
        raise DataError(
            f"{folder} holds no rows for {named}",
            [f"found: {found}", f"expected: a file called {named}, or files of one format"],
            "Name the file itself, or say what the split is called: data.splits",
        )
    by_class = _are_classes(folder, rows)
    formats = sorted({format_of(path.name) for path in rows}) if format == "auto" else [format]
    if len(formats) > 1:
        counts = [f"{sum(format_of(path.name) == one for path in rows)} {one}" for one in formats]
        raise DataError(
            f"{folder} holds files of several formats",
            [f"found: {', '.join(counts)}"],
            f"Name those that hold the rows: {folder.name}/*.{formats[0]}",
        )
    return Located(name, folder, tuple(rows), tuple(_notes(folder, rows, every, by_class)), by_class)


def _split_of(path: Path) -> str:
    """The split that a path bears a usual name of, or "": of its outermost folder, else of the file."""
    words = [found[0] for name in path.parts if (found := _WORD.findall(name.lower()))]
    return next((split for word in words if (split := split_of(word))), "")


def _are_classes(folder: Path, rows: Sequence[Path]) -> bool:
    """Whether all files are texts, one level below the folder (or below the split's), in two folders at least."""
    if any(format_of(path.name) != "text" for path in rows):
        return False
    depths = {len(path.relative_to(folder).parts) for path in rows}
    parents = {path.parent for path in rows}
    return len(depths) == 1 and len(parents) > 1 and len({parent.parent for parent in parents}) == 1


def _notes(folder: Path, rows: Sequence[Path], every: Sequence[Path], by_class: bool) -> list[str]:
    names = [str(path.relative_to(folder)) for path in rows]
    if by_class:
        classes = sorted({path.parent.name for path in rows})
        notes = [f"{len(rows):,} text files, each one row; labels are the folders: {listing(classes, 5)}"]
    else:
        notes = [f"{len(rows)} {'file' if len(rows) == 1 else 'files'}: {listing(names, 5)}"]
    aside = [str(path.relative_to(folder)) for path in every if path not in set(rows)]
    return notes + ([f"left aside: {listing(aside, 5)}"] if aside else [])
