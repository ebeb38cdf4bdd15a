"""What is kept on the disk, and how to make room."""

import contextlib
import json
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from adapterkit.own_folder import open_private
from adapterkit.training.trunk_cache.segment import SUFFIX, count_rows
from adapterkit.training.trunk_cache.store import DESCRIPTION

DAY_SECONDS = 86_400.0
MAX_DESCRIPTION_BYTES = 1 << 16


@dataclass(frozen=True)
class KeptStates:
    """The kept states of one backbone below one layer, those of a text in a row; see `Space`."""

    folder: Path
    backbone: str
    layer: int
    pooling: str
    dtype: str
    rows: int
    size_bytes: int
    used: float
    """When they were last used, in seconds since 1970."""


def entries(root: Path) -> list[KeptStates]:
    """Everything that is kept under `root`, last used first."""
    return sorted(_entries(root), key=lambda entry: -entry.used)


def _entries(root: Path) -> Iterator[KeptStates]:
    for description in root.glob(f"*/{DESCRIPTION}"):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):  # another run may be removing it
            with open(open_private(description), "rb") as file:
                facts = json.loads(file.read(MAX_DESCRIPTION_BYTES))
            files = [path for path in description.parent.iterdir() if path.is_file()]
            yield KeptStates(
                folder=description.parent,
                backbone=str(facts["backbone"]),
                layer=int(facts["layer"]),
                pooling=str(facts["pooling"]),
                dtype=str(facts["dtype"]),
                rows=sum(count_rows(path) for path in files if path.suffix == SUFFIX),
                size_bytes=sum(path.stat().st_size for path in files),
                used=description.stat().st_mtime,
            )


def prune(
    root: Path, *, older_than_days: float | None = None, max_bytes: int | None = None, everything: bool = False
) -> list[KeptStates]:
    """Remove what was not used for so long, then what was used longest ago until the rest is small enough. Returns what
    was removed. A run that reads it meanwhile keeps what it has opened."""
    since = -math.inf if older_than_days is None else time.time() - older_than_days * DAY_SECONDS
    kept, removed = list[KeptStates](), list[KeptStates]()
    for entry in entries(root):
        (removed if everything or entry.used < since else kept).append(entry)
    while max_bytes is not None and kept and sum(entry.size_bytes for entry in kept) > max_bytes:
        removed.append(kept.pop())
    for entry in removed:
        shutil.rmtree(entry.folder)
    return removed
