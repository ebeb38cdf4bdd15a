"""What was found about artifacts, gathered from the records that lie in or beside their folders."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapterkit.errors import AdapterkitError, DataError
from adapterkit.manifest import CONFIG, MANIFEST, Manifest, open_manifest
from adapterkit.manifest import RECORDS as RECORDS_FOLDER
from adapterkit.records import RECORDS, MetricRecord, Record, ReportRecord, SearchRecord, read_record
from adapterkit.records.found import ReportedRun
from adapterkit.records.record import MAX_RECORD_BYTES

KINDS = {
    kind.model_fields["form"].default: kind
    for kind in RECORDS.values()
    if kind not in (ReportRecord, SearchRecord)  # which are about no run
}
"""What a record says that it is -> its kind."""


def find_records(runs: Sequence[str | Path], files: Sequence[str | Path] = ()) -> ReportRecord:
    """Artifacts, with every record that is about one of them.

    Args:
        runs: folders of artifacts. Records in their `records` and beside them are read; those count that name the
            artifact by its digest.
        files: records that count whatever they name.

    Raises:
        ArtifactError: no artifact stands there.
        DataError: neither is named, or a file is no record; all of them at once.
    """
    if not runs and not files:
        raise DataError("nothing is named to report on", remedy="Name a run, or records that --json has given.")
    opened = {Path(run): open_manifest(run) for run in runs}
    digests = {manifest.sha256 for manifest in opened.values()}
    found, problems = [], []
    for file in files:
        try:
            found.append(read_record(_kind(Path(file)), file))
        except AdapterkitError as error:
            problems += [f"{file}: {problem}" for problem in error.problems or (error.summary,)]
    if problems:
        raise DataError("not every file is a record", problems, "Name what a verb has printed with --json.")
    found += [record for run in opened for record in _beside(run) if digests & set(_named(record.to_dict()))]
    told = {json.dumps(record.to_dict(), sort_keys=True): record for record in found}
    order = list(KINDS)
    kept = sorted(told, key=lambda text: (order.index(told[text].form), text))
    versions = {name: version for text in kept for name, version in told[text].made_with.items()}
    return ReportRecord(
        made_with=dict(sorted(versions.items())),
        seed=0,
        runs=tuple(_run(folder, manifest) for folder, manifest in opened.items()),
        records=tuple(told[text].to_dict() for text in kept),
    )


def _beside(run: Path) -> Iterator[Record]:
    """Records of a run and around it; every other file is passed over."""
    for folder in (run / RECORDS_FOLDER, run.resolve().parent):
        for file in sorted(folder.glob("*.json")):
            if file.name in (MANIFEST, CONFIG) or file.is_symlink():
                continue
            try:
                yield read_record(_kind(file), file)
            except AdapterkitError:
                continue


def _kind(file: Path) -> type[Record]:
    try:
        with file.open("rb") as opened:
            told = json.loads(opened.read(MAX_RECORD_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read", [str(error)]) from error
    form = told.get("schema") if isinstance(told, dict) else None
    if not isinstance(form, str) or form not in KINDS:
        raise DataError(f"{file} is no record", [f"schema: found {form!r}, expected one of {', '.join(KINDS)}"])
    return KINDS[form]


def _named(told: Any) -> Iterator[str]:
    """Digests of artifacts that a record names."""
    if isinstance(told, Mapping):
        for name, value in told.items():
            if name in ("sha256", "artifact", "parent") and isinstance(value, str):
                yield value
            yield from _named(value)
    elif isinstance(told, list):
        for value in told:
            yield from _named(value)


def _run(folder: Path, manifest: Manifest) -> ReportedRun:
    return ReportedRun(
        name=folder.resolve().name,
        sha256=manifest.sha256,
        kind=manifest.kind,
        backbone=manifest.backbone.name,
        fingerprint=manifest.backbone.fingerprint,
        version=manifest.version,
        parent=manifest.parent,
        metrics={
            split: {
                name: MetricRecord(**{"higher_is_better": True, **one.model_dump()}) for name, one in scores.items()
            }
            for split, scores in manifest.metrics.items()
        },
    )
