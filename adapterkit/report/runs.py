"""The runs below a folder: artifacts, and runs that were stopped, each in one line."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adapterkit.errors import AdapterkitError, ArtifactError
from adapterkit.manifest import MANIFEST, MAX_BYTES, Manifest
from adapterkit.manifest.codec import parse_manifest
from adapterkit.manifest.folder import read_file

DEEPEST = 6
"""Levels of folders that are looked through."""

PROGRESS = Path("training", "checkpoint", "progress.json")
"""What a run that was stopped has left, and one that has ended has not."""

MAIN = ("entity_f1", "micro_f1", "pearson", "accuracy", "f1", "perplexity")
"""Main metrics of kinds and problems; the first that an artifact has is its own, unless its task names another."""

SPLITS = ("test", "validation")


@dataclass(frozen=True)
class RunLine:
    """One run.

    Attributes:
        name: its folder, from the folder that was looked through.
        state: "" of an artifact; else why it is none that can be used.
        split: of the rows that the metric was measured on.
        low: lower end of the metric's 95 % interval.
        high: upper end of it.
        date: when the artifact was written, ISO 8601.
    """

    name: str
    state: str = ""
    kind: str = ""
    method: str = ""
    split: str = ""
    metric: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    size_bytes: int = 0
    date: str = ""
    backbone: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def main_metric(task: Mapping[str, Any], names: Mapping[str, Any]) -> str | None:
    """The metric of a stored task that counts, of those that were measured; None where none was."""
    settings = task.get("settings")
    asked = settings.get("metric") if isinstance(settings, Mapping) else None
    return next((name for name in (asked, *MAIN, *sorted(names)) if name in names), None)


def find_runs(folder: str | Path) -> list[RunLine]:
    """The artifacts and stopped runs in and below a folder, by name. Links are not followed.

    Raises:
        ArtifactError: there is no such folder.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise ArtifactError(
            f"there is no folder {folder}", ["expected the folder that runs were written into"], "As in: runs"
        )
    return sorted(_found(folder), key=lambda line: line.name)


def holds_runs(folder: Path) -> bool:
    """Whether a folder is no artifact, and artifacts or stopped runs lie below it."""
    return os.path.isdir(folder) and not (folder / MANIFEST).exists() and next(_found(folder), None) is not None


def _found(folder: Path) -> Iterator[RunLine]:
    for place, inner, files in os.walk(folder):
        here = Path(place)
        name = here.relative_to(folder).as_posix()
        if MANIFEST in files:
            inner.clear()
            yield _artifact(here, folder.name if name == "." else name)
        elif (here / PROGRESS).is_file():
            inner.clear()
            yield RunLine(folder.name if name == "." else name, _stopped(here / PROGRESS))
        elif len(here.relative_to(folder).parts) >= DEEPEST:
            inner.clear()
        inner[:] = [one for one in inner if not one.startswith(".")]


def _artifact(folder: Path, name: str) -> RunLine:
    file = folder / MANIFEST
    try:
        manifest = parse_manifest(read_file(file, MAX_BYTES[MANIFEST]))
        written = datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat(timespec="minutes")
    except (AdapterkitError, OSError) as error:
        problems = error.problems if isinstance(error, AdapterkitError) else ()
        return RunLine(name, state=(problems or (str(error),))[0])
    return RunLine(
        name,
        kind=manifest.kind,
        method=manifest.method.kind,
        size_bytes=manifest.size_bytes,
        date=written,
        backbone=manifest.backbone.name,
        **measured(manifest),
    )


def measured(manifest: Manifest) -> dict[str, Any]:
    """The metric that counts, where it was measured: split, metric, value and interval."""
    for split in (*SPLITS, *sorted(manifest.metrics)):
        scores = manifest.metrics.get(split) or {}
        if (metric := main_metric(manifest.task, scores)) is not None:
            found = scores[metric]
            return {"split": split, "metric": metric, "value": found.value, "low": found.low, "high": found.high}
    return {}


def _stopped(file: Path) -> str:
    try:
        return f"stopped at step {json.loads(file.read_bytes())['progress']['steps']:,}; train it on with --resume"
    except (OSError, ValueError, LookupError, TypeError):
        return "stopped; its checkpoint cannot be read"
