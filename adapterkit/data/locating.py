"""Which files or data set a source's name means."""

import glob
import os
import re
from collections.abc import Container
from pathlib import Path

from adapterkit.data.files.opening import ENDINGS, format_of
from adapterkit.data.folders import Located, files_of_folder, files_of_pattern
from adapterkit.data.problems import listing
from adapterkit.data.rows import IN_MEMORY
from adapterkit.errors import DataError
from adapterkit.recipe import DataSettings
from adapterkit.recipe.suggestions import did_you_mean

ROOT_VARIABLE = "ADAPTERKIT_DATA"

FORMATS = ("jsonl", "json", "csv", "tsv", "conll", "parquet", "text", "hub")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


def locate(
    source: str | Path,
    format: str = "auto",  # noqa: A002 - the recipe's word
    root: str | Path | None = None,
    folder: str | Path | None = None,
    split: str = "train",
    named: str | None = None,
) -> Located:
    """The files or the data set that `source` names.

    An absolute path stands for itself. A relative one is looked for in this order, and the first that exists is taken:
    under `root`; under the folder that the environment variable ADAPTERKIT_DATA names; under `folder` (the recipe's);
    under the current folder. A folder gives the files of the split in it, a pattern (``data/*.csv``) all that it names.
    A name that is no file, has no known ending and looks like `name` or `owner/name` is a hub data set. `split`:
    "train", "validation" or "test". `named`: what the data set calls the split; None for the same. Raises DataError: no
    such file (with every path that was looked at), or a folder in which it cannot be told."""
    name = str(source)
    if format != "auto" and format not in FORMATS:
        raise DataError(
            f"There is no format {format!r}{did_you_mean(format, FORMATS)}", [f"formats: {', '.join(FORMATS)}"]
        )
    if name == IN_MEMORY:
        raise DataError(
            "The rows were handed over from memory",
            [f"data.{split}: found {IN_MEMORY!r}, which can be read nowhere"],
            f'Hand them over again: data={{"{split}": rows}}, or name a file.',
        )
    candidates = _candidates(name, root, folder)
    if format == "hub":
        local = next((path for path in candidates if os.path.isdir(path)), None)
        return Located(str(local.resolve()) if local else name, None)
    for path in candidates:
        if os.path.isfile(path):
            return Located(name, path, (path,))
        if os.path.isdir(path):
            return files_of_folder(name, path, split, named or split, format)
    if glob.has_magic(name):
        return _matching(name, root, folder)
    if format == "auto" and not format_of(name) and _HUB_NAME.fullmatch(name):
        return Located(name, None, looked_at=tuple(candidates))
    raise _missing(name, candidates)


def check_sources(data: DataSettings, folder: str | Path | None = None, given: Container[str] = ()) -> None:
    """Find the files of every split of a recipe, so that all that are missing are named before any is read.

    Args:
        data: the recipe's.
        folder: the recipe's, where relative paths are looked for too.
        given: splits whose rows are in memory.

    Raises:
        DataError: as of `locate`, of all splits together.
    """
    wanted = {"train": data.train, "validation": data.validation, "test": data.test}
    named = {str(split): word for split, word in data.splits.items()}
    wrong: list[DataError] = []
    for split, source in wanted.items():
        if isinstance(source, str) and split not in given:
            try:
                locate(source, data.format, data.root, folder, split, named.get(split))
            except DataError as error:
                wrong.append(error)
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        problems = [f"{error.summary}: {problem}" for error in wrong for problem in error.problems or ("",)]
        raise DataError(f"{len(wrong)} sources of rows cannot be found", problems, wrong[0].remedy)


def _bases(root: str | Path | None, folder: str | Path | None) -> list[Path]:
    bases = [root, os.environ.get(ROOT_VARIABLE) or None, folder, Path.cwd()]
    paths = [Path(base).expanduser() for base in bases if base is not None]
    return list(dict.fromkeys(path if path.is_absolute() else Path.cwd() / path for path in paths))


def _candidates(name: str, root: str | Path | None, folder: str | Path | None) -> list[Path]:
    longest = max((len(part.encode("utf-8", "replace")) for part in name.split("/")), default=0)
    if "\x00" in name or longest > 255:
        found = "a NUL" if "\x00" in name else f"a name of {longest:,} bytes, expected at most 255"
        raise DataError("The source's name can be no file's", [f"found: {found} in {name!r:.80}"])
    path = Path(name).expanduser()
    return [path] if path.is_absolute() else [base / path for base in _bases(root, folder)]


def _matching(name: str, root: str | Path | None, folder: str | Path | None) -> Located:
    path = Path(name).expanduser()
    bases = [Path(path.anchor)] if path.is_absolute() else _bases(root, folder)
    pattern = str(path.relative_to(path.anchor)) if path.is_absolute() else str(path)
    for base in bases:
        files = files_of_pattern(base, pattern)
        if files:
            shown = listing([file.name for file in files], 5)
            notes = (f"{len(files)} {'file' if len(files) == 1 else 'files'}: {shown}",)
            return Located(name, base, files, notes)
    raise DataError(f"No file matches {name}", [f"looked in: {base}" for base in bases])


def _missing(name: str, candidates: list[Path]) -> DataError:
    problems = []
    for path in candidates:
        try:
            siblings = sorted(one.name for one in path.parent.iterdir()) if path.parent.is_dir() else []
        except OSError:
            siblings = []
        problems.append(f"looked at: {path}{did_you_mean(path.name, siblings)}")
    known = f" Known endings: {', '.join(ENDINGS)}." if not format_of(name) else ""
    return DataError(
        f"There is no file {name}",
        problems,
        f"Give the data's folder as data.root=… or in the environment variable {ROOT_VARIABLE}, or an absolute path."
        + known,
    )
