"""A manifest from its folder, and whether the files beside it are those that it names."""

from collections.abc import Sequence
from pathlib import Path

from adapterkit.errors import ArtifactError
from adapterkit.manifest.codec import parse_manifest
from adapterkit.manifest.facts import Manifest
from adapterkit.manifest.folder import CONFIG, MANIFEST, TENSORS, Files, read_folder


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
