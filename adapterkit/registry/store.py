"""Where a registry keeps artifacts: a folder, or any place that fsspec knows (s3://, gs://, hf://, memory://)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adapterkit.errors import AdapterkitError, ArtifactError, RegistryError
from adapterkit.manifest import (
    MANIFEST,
    MAX_BYTES,
    Files,
    Manifest,
    file_problems,
    parse_manifest,
    read_folder,
    refused,
    write_folder,
)


def read_whole(folder: str | Path) -> tuple[Manifest, Files]:
    """An artifact's manifest and files, whose digests agree.

    Raises:
        ArtifactError: with every problem found.
    """
    files = read_folder(folder)
    manifest = parse_manifest(files.content[MANIFEST])
    problems = file_problems(files, manifest)
    if problems:
        raise refused(files.folder, problems)
    return manifest, files


class Store:
    """Artifacts by digest. What is there is never written again.

    Args:
        url: a folder, or a URL that fsspec understands.
        cache: where artifacts of a store elsewhere are kept on this machine.
    """

    def __init__(self, url: str, cache: Path) -> None:
        self.url = url.rstrip("/")
        self._folder = Path(url.removeprefix("file://")) if _is_local(url) else None
        self._cache = cache

    def put(self, digest: str, files: Files) -> str:
        """Keep an artifact. Returns where."""
        place = f"{self.url}/{digest}"
        if self._folder is not None:
            with contextlib.suppress(ArtifactError):
                if read_whole(self._folder / digest)[0].sha256 == digest:
                    return place
            write_folder(self._folder / digest, files.content, overwrite=True)
            return place
        system, path = _system(place)
        # The manifest comes last: an artifact without one is not there yet.
        for name in sorted(files.content, key=lambda name: name == MANIFEST):
            with _told(place):
                system.pipe_file(f"{path}/{name}", bytes(files.content[name]))
        return place

    def get(self, digest: str, location: str) -> Path:
        """The artifact as a folder on this machine, checked against its digest.

        Raises:
            RegistryError: the store does not give it.
            ArtifactError: what it gives is not what was added.
        """
        if _is_local(location):
            folder = Path(location.removeprefix("file://"))
        else:
            folder = self._cache / digest
            if not folder.is_dir():
                write_folder(folder, self._fetch(location), overwrite=True)
        manifest, _ = read_whole(folder)
        if manifest.sha256 != digest:
            raise ArtifactError(
                f"{folder} is another artifact", [f"digest: found {manifest.sha256}, expected {digest}"]
            )
        return folder

    def _fetch(self, location: str) -> dict[str, bytes]:
        system, path = _system(location)
        content = {}
        for name, limit in MAX_BYTES.items():
            with _told(location):
                size = int(system.size(f"{path}/{name}") or 0)
                if size > limit:
                    raise ArtifactError(
                        f"{location} is not whole", [f"{name}: {size:,} bytes, expected at most {limit:,}"]
                    )
                content[name] = bytes(system.cat_file(f"{path}/{name}"))
        return content


def _is_local(url: str) -> bool:
    return "://" not in url or url.startswith("file://")


def _system(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        system, path = fsspec.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise RegistryError(
            f"{url} is no place that artifacts can be kept in",
            [str(error).splitlines()[0]],
            "Name a folder, or a URL whose fsspec package is installed (s3fs for s3://, gcsfs for gs://).",
        ) from error
    return system, str(path)


@contextlib.contextmanager
def _told(place: str) -> Iterator[None]:
    """What a remote store raises, whatever its client, as RegistryError that names the place."""
    try:
        yield
    except AdapterkitError:
        raise
    except Exception as error:
        raise RegistryError(
            f"{place} cannot be reached",
            [f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"],
            "Check the address and the credentials; what was there before is unchanged.",
        ) from error


def default_store(url: str) -> str:
    """Beside the file of a SQLite registry: `registry.db` keeps its artifacts in `registry-artifacts`."""
    name = url.partition(":///")[2]
    if not url.startswith("sqlite") or not name or name == ":memory:":
        raise RegistryError(
            "this registry does not say where artifacts are kept",
            ["store: expected a folder or a URL"],
            "Name it once, when the registry is made: Registry(url, store=…), on the command line --store URL.",
        )
    path = Path(name)
    return os.path.abspath(path.with_name(f"{path.stem}-artifacts"))
