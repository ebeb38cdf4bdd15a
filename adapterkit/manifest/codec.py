"""A manifest as bytes: written in one spelling with a digest of itself, and read without trust."""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

from pydantic import ValidationError

from adapterkit.errors import ArtifactError
from adapterkit.manifest.bounds import bound_problems
from adapterkit.manifest.facts import FORMAT, Manifest
from adapterkit.manifest.folder import MANIFEST, MAX_BYTES
from adapterkit.manifest.strict_json import dump_json, parse_object
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
    backbone = value.get("backbone")
    if isinstance(backbone, dict) and "coverage" not in backbone:
        raise ArtifactError(
            f"{MANIFEST} is of an earlier adapterkit",
            [f"{MANIFEST}: backbone.coverage: missing: what its fingerprint saw of the backbone is not known"],
            "Train the adapter again; its recipe is in the manifest.",
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
        problems += bound_problems(manifest)
    if problems:
        raise ArtifactError(f"{MANIFEST} cannot be used", problems)
    return manifest


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
