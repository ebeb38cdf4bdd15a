"""A manifest as bytes, written in one spelling with a digest of itself, and read without trust; and whether the files
beside it are those that it names."""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adapterkit.errors import ArtifactError
from adapterkit.manifest.facts import FORMAT, MAX_CLASSES, Manifest
from adapterkit.manifest.folder import CARD, CONFIG, MANIFEST, MAX_BYTES, TENSORS, Files, read_folder
from adapterkit.manifest.strict_json import dump_json, parse_object
from adapterkit.recipe import KINDS
from adapterkit.recipe.kinds import FACTS
from adapterkit.recipe.settings import SettingsError

_REPORTED = 20


def dump_manifest(content: Mapping[str, Any]) -> bytes:
    """Write a manifest from its fields without `sha256`, which is computed here.
    Raises ArtifactError: a field is missing, unknown, out of bounds, or the manifest is too large."""
    raw = dump_json({**content, "sha256": _digest(content)})
    parse_manifest(raw)
    return raw


def parse_manifest(raw: bytes | bytearray) -> Manifest:
    """Read and check a manifest. Raises ArtifactError: with every field that is wrong."""
    if len(raw) > MAX_BYTES[MANIFEST]:
        limit = MAX_BYTES[MANIFEST]
        raise ArtifactError(f"{MANIFEST} is too large", [f"{MANIFEST}: {len(raw):,} bytes, expected at most {limit:,}"])
    value = parse_object(raw, MANIFEST)
    found = value.get("format")
    if type(found) is not int or found != FORMAT:
        remedy = "Upgrade adapterkit." if type(found) is int and found > FORMAT else ""
        raise ArtifactError(
            f"{MANIFEST} is of an unknown version",
            [f"{MANIFEST}: format: found {found!r:.40}, expected {FORMAT}"],
            remedy,
        )
    problems = []
    claimed = value.get("sha256")
    if not _is_digest(claimed, raw, value):
        problems.append(f"{MANIFEST}: sha256: it is not the digest of this manifest: it was edited or damaged")
    try:
        manifest = Manifest.model_validate_json(raw)
    except ValidationError as error:
        problems += validation_problems(error, MANIFEST)
    else:
        problems += _bound_problems(manifest)
    if problems:
        raise ArtifactError(f"{MANIFEST} cannot be used", problems)
    return manifest


def open_manifest(folder: str | Path) -> Manifest:
    """What an artifact says of itself, checked as far as that goes without reading its tensors.

    The manifest is sound, and the files beside it are the very bytes that it names. What is in these bytes is checked
    by `adapterkit.artifact.open_artifact`, which makes tensors of them.

    Raises:
        ArtifactError: with every problem found.
    """
    return read_whole(folder)[0]


def read_whole(folder: str | Path) -> tuple[Manifest, Files]:
    """An artifact's manifest and files, whose digests agree. Raises ArtifactError: with every problem found."""
    files = read_folder(folder)
    try:
        manifest = parse_manifest(files.content[MANIFEST])
    except ArtifactError as error:
        raise refused(files.folder, error.problems or (error.summary,)) from error
    if problems := file_problems(files, manifest):
        raise refused(files.folder, problems)
    return manifest, files


def file_problems(files: Files, manifest: Manifest) -> list[str]:
    """Files that are not the ones in the manifest. People edit cards, and nothing is read from them."""
    problems = []
    for name in (CONFIG, TENSORS):
        stated, size_bytes = manifest.files[name], len(files.content[name])
        if size_bytes != stated.size_bytes:
            problems.append(f"{name}: {size_bytes:,} bytes, expected {stated.size_bytes:,}")
        elif files.sha256(name) != stated.sha256:
            problems.append(f"{name}: its SHA-256 is not the one in {MANIFEST}: it was edited or damaged")
    return problems


def refused(folder: Path, problems: Sequence[str]) -> ArtifactError:
    """The error for an artifact that has problems."""
    count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
    return ArtifactError(
        f"{folder} is refused ({count})", problems, "Download or train it again; nothing of it was loaded."
    )


def validation_problems(error: ValidationError, file: str) -> list[str]:
    """Pydantic's findings, one line each."""
    lines = [
        f"{file}: {repr('.'.join(map(str, path))[:200])[1:-1]}: {problem}"
        for item in error.errors(include_url=False)
        for path, problem in _findings(item)
    ]
    more = len(lines) - _REPORTED
    return lines if more <= 0 else [*lines[:_REPORTED], f"{file}: and {more} more"]


def _findings(item: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """The problems behind one finding: those of a whole block name their fields themselves."""
    path, reason = item["loc"], (item.get("ctx") or {}).get("error")
    if isinstance(reason, SettingsError):
        yield from (((*path, field), problem) for field, problem in reason.problems)
    else:
        yield path, item["msg"][:200] + (f", found {item['input']!r:.60}" if item["type"] != "missing" else "")


def _is_digest(claimed: Any, raw: bytes | bytearray, value: Mapping[str, Any]) -> bool:
    """Whether a manifest's digest is the one that it claims.

    In the one spelling that is written, the digest is that of the bytes without their own line: no need to spell it all
    again. A manifest that is spelled otherwise is compared by content.
    """
    line = f'\n  "sha256": "{claimed}",'.encode("utf-8", errors="replace")
    if raw.count(line) == 1 and sha256(raw.replace(line, b"")).hexdigest() == claimed:
        return True
    return bool(claimed == _digest({key: item for key, item in value.items() if key != "sha256"}))


def _digest(content: Mapping[str, Any]) -> str:
    return sha256(dump_json(content)).hexdigest()


def _bound_problems(manifest: Manifest) -> list[str]:
    """What the types of a manifest cannot say: sizes that would be allocated, and fields that must agree."""
    problems = []
    if manifest.kind not in KINDS:
        problems.append(f"{MANIFEST}: task.kind: found {manifest.kind!r:.40}, expected one of {', '.join(KINDS)}")
    problems += _part_problems(manifest)
    if len(manifest.labels) > MAX_CLASSES:
        problems.append(f"{MANIFEST}: task.labels: {len(manifest.labels):,}, expected at most {MAX_CLASSES:,}")
    problems += _head_problems(manifest)
    expected = {CONFIG, TENSORS, CARD}
    if manifest.files.keys() != expected:
        names = ", ".join(sorted(manifest.files))[:200]
        problems.append(f"{MANIFEST}: files: found {names}, expected {', '.join(sorted(expected))}")
    if manifest.reference is not None:
        try:
            manifest.reference.states()
        except ValueError as error:
            problems.append(f"{MANIFEST}: reference: {error}")
    if (manifest.parent is None) != (not manifest.history) or manifest.version != len(manifest.history) + 1:
        problems.append(f"{MANIFEST}: version, parent and history do not agree")
    elif manifest.history and manifest.history[-1].sha256 != manifest.parent:
        problems.append(f"{MANIFEST}: parent: it is not the last entry of history")
    return problems


def _head_problems(manifest: Manifest) -> list[str]:
    """What a head leaves open. Nothing may be: whoever builds it must not have to ask the backbone, or a default."""
    head, facts = manifest.head, FACTS.get(manifest.kind)
    if not head.is_chosen:
        return [f"{MANIFEST}: head.kind: found 'auto' or nothing, expected the kind that was built"]
    if facts is None:
        return []
    pools = facts.pooled and head.pools
    if pools and head.pooling == "auto":
        return [f"{MANIFEST}: head.pooling: found 'auto' or nothing, expected mean, first or last: what was built"]
    if not pools and head.pooling != "auto":
        return [f"{MANIFEST}: head.pooling: found {head.pooling!r}, expected 'auto': this head pools nothing so"]
    if head.normalize and not facts.pooled:
        return [f"{MANIFEST}: head.normalize: found true, expected false: {manifest.kind} reads every token"]
    return []


def _part_problems(manifest: Manifest) -> list[str]:
    """What is wrong between a fusion and its parts."""
    names, wanted = tuple(part.name for part in manifest.parts), manifest.method.part_folders()
    problems = []
    if names != wanted:
        found, expected = (", ".join(these)[:200] or "none" for these in (names, wanted))
        problems.append(f"{MANIFEST}: parts: found {found}, expected {expected}: those that the method names")
    placements = sorted({part.method.placement for part in manifest.parts})
    if len(placements) > 1:
        problems.append(f"{MANIFEST}: parts: placements {' and '.join(placements)}, expected one")
    return problems
