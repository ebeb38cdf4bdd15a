"""Where artifacts are kept by their digest: a folder, or a URL that fsspec knows (s3://, gs://, memory://).

A store holds every artifact in a folder named by its digest, and what people call them under `names`: a file for each
name, in which a digest stands. A version that was written by half has no name, so nobody finds it. `main` moves to what
was pushed last; every other name is made once and never moves.
"""

import logging
import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

from adapterkit.errors import ArtifactError, HubError, OutputError
from adapterkit.manifest.atomic import stage_folder, write_file, write_folder
from adapterkit.manifest.codec import parse_manifest, read_whole
from adapterkit.manifest.elsewhere import is_outage, list_url, read_url, write_url
from adapterkit.manifest.folder import CARD, MANIFEST, MAX_BYTES, MAX_SIGNATURE_BYTES, SIGNATURE, Files, read_file
from adapterkit.manifest.names import MAIN, NAMES, ArtifactName, folder_of, is_digest, is_tag
from adapterkit.manifest.signature import read_signature, signature_beside, write_signature

logger = logging.getLogger(__name__)

_MOST_NAMED = 20


class Store:
    """Artifacts by digest, and names of them, in a folder or at a URL of fsspec.
    `cache`: where artifacts of a store elsewhere are kept on this machine. `check`: refuses an artifact's folder; what
    it refuses is not kept in the cache."""

    def __init__(self, url: str, cache: Path, check: Callable[[Path], object] = read_whole) -> None:
        self.url = url.rstrip("/")
        self.folder = folder_of(url)
        self._cache, self._check = cache, check

    def put(self, digest: str, files: Files, signature: bytes | None = None) -> str:
        """Keep an artifact, and its signature beside those that it has there. Returns where."""
        place = f"{self.url}/{digest}"
        before = self._read(f"{digest}/{SIGNATURE}", MAX_SIGNATURE_BYTES)
        signature = signature_beside(before, signature, files, place)
        if self.folder is not None:
            there = self.folder / digest
            if not _holds(there, digest) or (there / CARD).read_bytes() != files.content[CARD]:
                write_folder(there, files.content, overwrite=True, keep={SIGNATURE})
            if signature is not None:
                write_signature(self.folder / digest, signature)
            return place
        if signature is not None:
            write_url(f"{place}/{SIGNATURE}", signature)
        # The manifest comes last: an artifact without one is not there yet.
        for name in sorted(files.content, key=lambda name: name == MANIFEST):
            write_url(f"{place}/{name}", bytes(files.content[name]))
        return place

    def get(self, digest: str, location: str) -> Path:
        """The artifact as a folder on this machine, checked against its digest.
        Raises HubError: the store does not give it; ArtifactError: what it gives is not what was added."""
        folder = folder_of(location) or self._cache / digest
        if self.folder is not None:
            self._check(folder)
        elif (signature := _signature_at(location, folder)) != read_signature(folder) or not _holds(folder, digest):
            with stage_folder(folder, overwrite=True) as stage:  # what has been signed since may have another card
                for name, content in _fetched(location):
                    (stage / name).write_bytes(content)
                if signature is not None:
                    (stage / SIGNATURE).write_bytes(signature)
                self._check(stage)
                _check_digest(stage, digest)
        _check_digest(folder, digest)
        return folder

    def find(self, revision: str | None) -> tuple[str, str]:
        """The digest of an artifact, and where it is. A store may also be the folder of one artifact, without names.
        Raises HubError: nothing has this name; ArtifactError: what stands there is no digest, or no manifest."""
        if revision is not None and is_digest(revision):
            return revision, f"{self.url}/{revision}"
        if (digest := self._named(revision or MAIN)) is not None:
            return digest, f"{self.url}/{digest}"
        if revision is None and (manifest := self._read(MANIFEST, MAX_BYTES[MANIFEST])) is not None:
            return parse_manifest(manifest).sha256, self.url
        known = self._names()
        shown = ", ".join(known[:_MOST_NAMED]) + (" …" if len(known) > _MOST_NAMED else "")
        raise HubError(
            f"there is no artifact {ArtifactName(self.url, revision)}",
            [f"names there: {shown or 'none'}"],
            "Check the spelling, or push one there: adapterkit push FOLDER URL --tag NAME.",
        )

    def names(self) -> dict[str, str]:
        """Every name, with the digest that it stands for."""
        return {name: digest for name in self._names() if (digest := self._named(name)) is not None}

    def check_free(self, name: str) -> None:
        """Raise HubError where a name is taken."""
        if self._named(name) is not None:
            raise self._taken(name)

    def call(self, name: str, digest: str) -> None:
        """Give an artifact a name. Raises HubError where it is taken, which `main` never is."""
        new = name != MAIN
        if self.folder is not None:
            try:
                (self.folder / NAMES).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                problems = [f"{self.folder / NAMES}: {error.strerror or error}"]
                raise OutputError(f"{self.folder} cannot be written", problems) from error
            made = write_file(self.folder / NAMES / name, digest.encode(), new=new)
        else:
            made = write_url(f"{self.url}/{NAMES}/{name}", digest.encode(), new=new)
        # Of two at once, one has lost also where a system does not know of files that have to be new.
        if not made or (new and self._named(name) != digest):
            raise self._taken(name)

    def _taken(self, name: str) -> HubError:
        known = ", ".join(self._names()[:_MOST_NAMED])
        return HubError(
            f"{self.url} has a tag {name} already, and a tag never moves", [f"names: {known}"], "Choose another tag."
        )

    def _named(self, name: str) -> str | None:
        """The digest that a name stands for; None where there is no such name."""
        raw = self._read(f"{NAMES}/{name}", 128)
        if raw is None:
            return None
        if not is_digest(text := raw.decode(errors="replace").strip()):
            raise ArtifactError(f"{self.url} is no sound store", [f"{NAMES}/{name}: found {text!r}, expected a digest"])
        return text

    def _names(self) -> list[str]:
        if self.folder is None:
            found = list_url(f"{self.url}/{NAMES}")
        else:
            found = os.listdir(self.folder / NAMES) if (self.folder / NAMES).is_dir() else []
        return sorted(filter(is_tag, found))

    def _read(self, name: str, limit_bytes: int) -> bytes | None:
        """A small file of the store; None where there is none."""
        if self.folder is None:
            return read_url(f"{self.url}/{name}", limit_bytes)
        path = self.folder / name
        return bytes(read_file(path, limit_bytes)) if os.path.lexists(path) else None


def fetch_stored(
    named: ArtifactName, cache: Path, *, check: Callable[[Path], object] = read_whole, offline: bool = False
) -> Path:
    """The folder of an artifact of a store: its own where the store is a folder here, else a copy in the cache.
    Raises HubError: the store does not give it. Where it cannot be reached, the copy from before is given, with a
    warning; ArtifactError: what it gives is damaged or unsafe; nothing of it is kept."""
    store = Store(named.place, cache / "versions", check)
    if store.folder is not None:
        return store.get(*store.find(named.revision))
    before = cache / "names" / sha256(str(named).encode()).hexdigest()
    try:
        if offline:
            raise HubError(f"{named} is not here", ["offline nothing is fetched"], "Fetch it once while it is online.")
        digest, location = store.find(named.revision)
        folder = store.get(digest, location)
    except HubError as error:
        if not offline and not is_outage(error.__cause__):
            raise
        digest = before.read_text() if before.is_file() else ""
        folder = cache / "versions" / digest
        if not is_digest(digest) or not _holds(folder, digest):
            raise
        if not offline:
            logger.warning("%s: %s is the copy that was fetched before", error.message, named)
        check(folder)
        return folder
    before.parent.mkdir(parents=True, exist_ok=True)
    write_file(before, digest.encode())
    return folder


def _fetched(location: str) -> Iterator[tuple[str, bytes]]:
    """The files of an artifact, the manifest first, and none larger than it says."""
    limits = dict(MAX_BYTES)
    for name in MAX_BYTES:
        raw = read_url(f"{location}/{name}", limits[name])
        if raw is None:
            raise HubError(f"{location} is not whole", [f"{name}: missing"], "Push it again.")
        if name == MANIFEST:
            stated = parse_manifest(raw).files
            # People edit cards.
            limits |= {one: min(limits[one], stated[one].size_bytes) for one in stated if one in limits and one != CARD}
        yield name, raw


def _signature_at(location: str, copy: Path) -> bytes | None:
    """The signature that an artifact has; that of its copy where nobody answers."""
    try:
        return read_url(f"{location}/{SIGNATURE}", MAX_SIGNATURE_BYTES)
    except HubError as error:
        if is_outage(error.__cause__):
            return read_signature(copy)
        raise


def _holds(folder: Path, digest: str) -> bool:
    """Whether a folder is this artifact, and sound."""
    try:
        return read_whole(folder)[0].sha256 == digest
    except ArtifactError:
        return False


def _check_digest(folder: Path, digest: str) -> None:
    found = read_whole(folder)[0].sha256
    if found != digest:
        raise ArtifactError(f"{folder} is another artifact", [f"digest: found {found}, expected {digest}"])
