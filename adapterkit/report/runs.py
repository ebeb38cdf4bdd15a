"""The runs below a folder: artifacts, and runs that were stopped, each in one line."""

import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adapterkit.errors import AdapterkitError, ArtifactError
from adapterkit.manifest import MANIFEST, MAX_BYTES, Manifest
from adapterkit.manifest.codec import parse_manifest
from adapterkit.manifest.folder import read_file
from adapterkit.records.found import RunLine

DEEPEST = 6
"""Levels of folders that are looked through."""

PROGRESS = Path("training", "checkpoint", "progress.json")
"""What a run that was stopped has left, and one that has ended has not."""

MAIN = ("entity_f1", "micro_f1", "pearson", "accuracy", "f1", "perplexity")
"""Main metrics of kinds and problems; the first that an artifact has is its own, unless its task names another."""

SPLITS = ("test", "validation")

NOTHING: Mapping[str, Any] = {
    **dict.fromkeys(("kind", "method", "split", "metric", "date", "backbone"), ""),
    **dict.fromkeys(("value", "low", "high")),
    "size_bytes": 0,
}
"""What is known of a run that is no artifact."""


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
            yield RunLine(**NOTHING, name=folder.name if name == "." else name, state=_stopped(here / PROGRESS))
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
        return RunLine(**NOTHING, name=name, state=(problems or (str(error),))[0])
    return RunLine(name=name, **facts_of(manifest, written))


def facts_of(manifest: Manifest, date: str) -> dict[str, Any]:
    """What a list says of an artifact: see `records.found.RunFacts`; of metrics the one that counts."""
    found = {**NOTHING, "kind": manifest.kind, "method": manifest.method.kind, "size_bytes": manifest.size_bytes}
    found |= {"date": date, "backbone": manifest.backbone.name}
    for split in (*SPLITS, *sorted(manifest.metrics)):
        scores = manifest.metrics.get(split) or {}
        if (metric := main_metric(manifest.task, scores)) is not None:
            one = scores[metric]
            return {**found, "split": split, "metric": metric, "value": one.value, "low": one.low, "high": one.high}
    return found


def _stopped(file: Path) -> str:
    try:
        return f"stopped at step {json.loads(file.read_bytes())['progress']['steps']:,}; train it on with --resume"
    except (OSError, ValueError, LookupError, TypeError):
        return "stopped; its checkpoint cannot be read"
