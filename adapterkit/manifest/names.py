"""Names of artifacts: owner/name on a hub, or the folder or URL of a store; each with @revision behind it where one
is meant; and what is rather a folder here."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from adapterkit.errors import HubError, OutputError

MAIN = "main"
NAMES = ".names"
"""Of a store: the folder of its names. Hidden, so that no folder of runs is taken for a store."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
_REPOSITORY = re.compile(_NAME)
_HUB_NAME = re.compile(rf"(?P<place>{_NAME})(@(?P<revision>[A-Za-z0-9][\w./-]*))?")
_TAG = re.compile(r"(?!HEAD$)(?![0-9a-f]{40}$)(?!.*\.\.)(?!.*(\.lock|\.)$)[A-Za-z0-9][\w.-]*", re.ASCII)
"""What git takes as a tag, and nobody takes for a commit."""


@dataclass(frozen=True)
class ArtifactName:
    """An artifact in a repository of a hub, or in the store at a folder or a URL of fsspec."""

    place: str
    revision: str | None
    """A tag, a branch, a commit or a digest; None for the newest."""

    def __str__(self) -> str:
        return f"{self.place}@{self.revision}" if self.revision else self.place


def parse_hub_name(text: str) -> ArtifactName:
    """owner/name or owner/name@revision. Raises HubError for any other text."""
    found = _HUB_NAME.fullmatch(text)
    if found is None:
        raise HubError(f"{text!r} is no name on a hub", ["expected owner/name or owner/name@revision"])
    return ArtifactName(found["place"], found["revision"])


def is_repository(text: str) -> bool:
    """Whether a text can be owner/name on a hub."""
    return _REPOSITORY.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Whether a text can be the name of a version."""
    return _TAG.fullmatch(text) is not None


def check_publishable(repository: str, tag: str | None) -> None:
    """Refuse what cannot be the name of a repository or of a tag. Raises HubError, with both where both are wrong."""
    problems = []
    if not is_repository(repository):
        problems.append(f"repository: found {repository!r}, expected owner/name")
    if tag is not None and not is_tag(tag):
        problems.append(f"tag: found {tag!r}, expected what git takes: letters, digits, '_', '-', single '.'")
    if problems:
        raise HubError("this cannot be published", problems)


def is_address(text: str) -> bool:
    """Whether a text is a URL or a path for sure, and no name on a hub: it has :// in it, or begins with . / or ~."""
    return "://" in text or text.startswith((".", "/", "~", os.sep))


def parse_store_name(text: str) -> ArtifactName | None:
    """A URL, or a folder here that is a store, each with @revision behind it where one is meant; None for any other."""
    text = os.path.expanduser(text)
    if "://" not in text and os.path.exists(text):
        return ArtifactName(text, None) if os.path.isdir(os.path.join(text, NAMES)) else None
    start, slash, last = text.rpartition("/")
    name, _, revision = last.partition("@")
    named = ArtifactName(f"{start}{slash}{name}", revision) if is_tag(revision) or is_digest(revision) else None
    if "://" in text:
        return named or ArtifactName(text, None)
    return named if named and os.path.isdir(named.place) else None


def meant_as_folder(text: str) -> bool:
    """Whether a text can only mean a folder here: one that is there, a path, or a name whose first part is a folder
    here, as in runs/intent. A name on a hub is told from the latter by its revision: runs/intent@main."""
    if parse_store_name(text) is not None:
        return False
    owner, slash, rest = text.partition("/")
    return os.path.exists(text) or is_address(text) or not slash or ("@" not in rest and os.path.isdir(owner))


def is_digest(text: str) -> bool:
    """Whether a text is the digest of an artifact."""
    return _DIGEST.fullmatch(text) is not None


def folder_of(url: str) -> Path | None:
    """The folder that a path or a file:// URL names; None for a place elsewhere."""
    return Path(url.removeprefix("file://")) if "://" not in url or url.startswith("file://") else None


def check_target(target: str, tag: str | None, *, private: bool | None = None, message: str | None = None) -> None:
    """Refuse what nothing can be pushed to. Raises HubError and OutputError as `push` does."""
    if not is_address(target):
        check_publishable(target, tag)
        return
    check_publishable("a/store", tag)
    problems = [
        f"{name}: belongs to a hub" for name, it in (("private", private), ("message", message)) if it is not None
    ]
    if tag == MAIN:
        problems.append(f"tag: {MAIN} is what was pushed last")
    if "@" in target.rpartition("/")[2]:
        problems.append(f"target: found {target!r}, expected no @; a version's name is its tag")
    if problems:
        raise HubError("this cannot be published", problems)
    _check_store(os.path.expanduser(target))


def _check_store(url: str) -> None:
    """Refuse a folder that holds other things than a store. Raises OutputError."""
    folder = folder_of(url)
    if folder is None or not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} is no folder", remedy="Give a folder that is a store, or that is not there yet.")
    strangers = sorted(n for n in os.listdir(folder) if n[0] != "." and not is_digest(n))
    if strangers:
        raise OutputError(
            f"{folder} is no store of artifacts",
            [f"{folder}: holds {', '.join(strangers[:5])}, expected nothing, or digests"],
            "Push into a folder of its own, as in ./shared/intent.",
        )
