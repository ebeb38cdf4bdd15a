"""Data sets of a hub, through `datasets.load_dataset`."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets

from adapterkit.data.class_labels import labels_by_name
from adapterkit.data.rows import Numbered
from adapterkit.errors import DataError, first_line
from adapterkit.recipe import DataSettings

# `datasets` has no base class for what its readers, builders and the network raise.
_FAILURES = (OSError, ValueError, KeyError, RuntimeError, NotImplementedError, datasets.exceptions.DatasetsError)


def hub_rows(
    name: str, settings: DataSettings, split: str, *, streaming: bool, looked_at: Sequence[Path] = ()
) -> Iterator[Numbered]:
    """The records of a data set, numbered from 1; class labels come as their names.

    Not streaming, the data set is first fetched into the cache of `datasets`, where the next run finds it. Raises
    DataError: there is no such data set, configuration, revision or split, or the hub cannot be reached; it names the
    files that were `looked_at` first.
    """
    config, revision = settings.config, settings.revision
    asked = [f"asked for: {name}, configuration {config or 'default'}, revision {revision or 'newest'}, split {split}"]
    asked += [f"no such file: {path}" for path in looked_at]
    with _explained(name, asked):
        with _quiet():
            dataset: Any = datasets.load_dataset(name, config, revision=revision, split=split, streaming=streaming)
        named = labels_by_name(dataset.features)
        records = iter(dataset)
    for number in itertools.count(1):
        with _explained(name, asked):
            row = next(records, None)
        if row is None:
            return
        yield number, named(row)


@contextmanager
def _explained(name: str, asked: list[str]) -> Iterator[None]:
    """Turns what `datasets` and the network raise into one clear error."""
    try:
        yield
    except ConnectionError as error:
        raise DataError(
            f"The data set {name} cannot be fetched: the hub cannot be reached",
            [*asked, f"found: {first_line(error)}"],
            "Go online (or unset HF_HUB_OFFLINE), or use a file: data.train=path/to/train.jsonl",
        ) from error
    except _FAILURES as error:
        raise DataError(
            f"The data set {name} cannot be loaded",
            [*asked, f"found: {type(error).__name__}: {first_line(error)}"],
            "Check data.config, data.revision and data.splits; a file needs its path and one of the known endings.",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of `datasets` meanwhile: they would break into ours."""
    shown = datasets.are_progress_bars_disabled() is False
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
