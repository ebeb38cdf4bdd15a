"""Files looked at together: their splits, what they are for, and what is remarkable about their rows."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapterkit.data import Repeats, Rows, find_overlap, find_repeats, locate, named_rows, overlooked, read_rows
from adapterkit.data.split_names import split_of
from adapterkit.errors import DataError
from adapterkit.glance import in_short
from adapterkit.recipe import COLUMNS, DataSettings
from adapterkit.survey.guessing import Guess, guess, problem_of
from adapterkit.survey.seen import Lengths, Seen, lengths_of, look_at

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Survey:
    """What was seen.

    Attributes:
        sources: split -> the file, as it was named.
        rows: split -> how many.
        columns: of the training rows, by the file's names.
        guess: what they are for.
        problem: how labels of texts are to be read; "" for other kinds.
        labels: label or tag -> how often, the most frequent first; empty where answers are no names.
        lengths: of the training rows' inputs.
        repeats: rows that say the same.
        shared: validation and test rows that training has too.
        backbone: a folder or an id, where one was named.
        notes: what else a user should know.
    """

    sources: Mapping[str, str]
    rows: Mapping[str, int]
    columns: Mapping[str, Seen]
    guess: Guess
    problem: str
    labels: Mapping[str, int]
    lengths: Lengths
    repeats: Repeats
    shared: Mapping[str, int]
    settings: DataSettings
    backbone: str | None = None
    notes: tuple[str, ...] = field(default=())

    __repr__ = in_short("sources", "problem", "backbone")

    @property
    def lacking(self) -> str:
        """What training would refuse these rows for; "" where nothing is known."""
        if self.problem != "single-label" or len(self.labels) > 1:
            return ""
        return f"{self.guess.columns['label']}: found {', '.join(map(repr, self.labels)) or 'no label'} in all rows"


def look(
    files: Sequence[str | Path],
    *,
    kind: str | None = None,
    columns: Mapping[str, str] | None = None,
    settings: DataSettings | None = None,
    root: str | Path | None = None,
    backbone: str | None = None,
) -> Survey:
    """Look at files of rows, or at a folder.

    Args:
        files: one that is called after a split (test.csv) is that split; the others train.
        kind: of task; None guesses.
        columns: canonical name -> the file's column, where the guess is wrong.
        settings: how the files are read (encoding, delimiter, …).
        root: the folder that relative paths start from.
        backbone: a folder or an id: says what a text by itself is for, and counts tokens where its tokenizer is here.

    Raises:
        DataError: a file that cannot be read, two files of one split, or rows of no known kind.
    """
    given, asked = settings or DataSettings(), dict(columns or {})
    sources = _sources(files, root, given)
    read = {
        split: read_rows(source, given, root=root, needs={}, split=split, text_unit="paragraph")
        for split, source in sources.items()
    }
    train = read["train"]
    seen = look_at(train)
    found = guess(seen, kind, asked, _model(backbone))
    needs = COLUMNS[found.kind]
    named = {split: _named(rows, found.columns, needs) for split, rows in read.items()}
    inputs = [name for name in found.columns if not needs[name].target]
    targets = [name for name in found.columns if needs[name].target]
    others = {split: rows for split, rows in named.items() if split != "train"}
    notes = [f"{split}: {note}" for split, rows in read.items() for note in rows.reading.notes]
    missed = overlooked(list(seen), found.columns, needs)
    notes += [f"column {column!r} is not read, though its name is usual for {name}" for column, name in missed.items()]
    free = [column for column in seen if column not in found.columns.values() and seen[column].filled]
    if kind is None and found.alone and free:
        told = f"{found.columns['text']!r} is read alone; if {' or '.join(map(repr, free))} holds the answers, say so"
        notes.append(f"{told}: --kind text-classification --column label=COLUMN")
    return Survey(
        sources=sources,
        rows={split: len(rows) for split, rows in read.items()},
        columns=seen,
        guess=found,
        problem=problem_of(named["train"].column("label")) if found.kind == "text-classification" else "",
        labels=_labels(named["train"], found),
        lengths=lengths_of(named["train"], inputs, backbone),
        repeats=find_repeats(named["train"], inputs, targets),
        shared={split: find_overlap(named["train"], rows, inputs).count for split, rows in others.items()},
        settings=given,
        backbone=backbone,
        notes=tuple(notes),
    )


def _sources(files: Sequence[str | Path], root: str | Path | None, settings: DataSettings) -> dict[str, str]:
    """The file of each split. A folder, or one file alone, trains; a folder gives the splits that it has."""
    sources: dict[str, str] = {}
    for file in files:
        name = str(file)
        word = Path(name).name.split(".")[0].lower().replace("-", "_").split("_")[-1]
        split = (split_of(word) if len(files) > 1 else "") or "train"
        if split in sources:
            raise DataError(
                f"Two files are for {split}",
                [f"{split}: found {sources[split]} and {name}"],
                "Name one of each: train.csv test.csv; several files of one split by a pattern: 'train-*.csv'",
            )
        sources[split] = name
    if "train" not in sources:
        raise DataError("No file is for training", [f"found: {', '.join(sources.values()) or 'none'}"])
    if len(files) == 1:
        for split in SPLITS[1:]:
            if _has_files_for(sources["train"], split, root, settings):
                sources[split] = sources["train"]
    return {split: sources[split] for split in SPLITS if split in sources}


def _has_files_for(source: str, split: str, root: str | Path | None, settings: DataSettings) -> bool:
    """Whether a folder holds files of its own for a split."""
    names: Mapping[Any, str] = settings.splits
    try:
        found, train = (
            locate(source, settings.format, root, None, name, names.get(name, name)) for name in (split, "train")
        )
    except DataError:
        return False
    return found.path is not None and found.path.is_dir() and found.files != train.files


def _named(rows: Rows, columns: Mapping[str, str], needs: Mapping[str, Any]) -> Rows:
    present = {name: column for name, column in columns.items() if column in rows.columns}
    return named_rows(rows, present, needs={name: needs[name] for name in columns})


def _labels(rows: Rows, found: Guess) -> dict[str, int]:
    """How often each label or tag stands in the rows."""
    name = {"text-classification": "label", "token-classification": "tags"}.get(found.kind)
    if name is None:
        return {}
    values = (value for value in rows.column(name) if value is not None)
    counts = Counter(str(item) for value in values for item in (value if isinstance(value, list) else [value]))
    return dict(counts.most_common())


def _model(backbone: str | None) -> str:
    """What a text by itself is for: masked words where the backbone was made for them, else the next word."""
    path = None if backbone is None else Path(backbone) / "config.json"
    if path is None or not path.is_file():
        return "causal-lm"
    try:
        config = json.loads(path.read_bytes())
        classes = " ".join(map(str, config.get("architectures") or []))
    except (ValueError, AttributeError, OSError):
        return "causal-lm"
    return "masked-lm" if "MaskedLM" in classes or "PreTraining" in classes else "causal-lm"
