"""Artifacts on a model hub: published in one commit, fetched as plain files, and checked on both ways."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub import CommitOperationAdd, HfApi

from adapterkit.artifact.loading import Artifact, open_artifact
from adapterkit.backbone.files import HUB_FAILURES
from adapterkit.backbone.own_folder import cache_folder
from adapterkit.errors import ArtifactError, HubError
from adapterkit.manifest import (
    MAX_BYTES,
    HubName,
    check_output,
    check_publishable,
    parse_hub_name,
    read_folder,
    write_folder,
)

logger = logging.getLogger(__name__)

_FAILURES: tuple[type[Exception], ...] = (*HUB_FAILURES, RuntimeError)  # of an upload that breaks off


@dataclass(frozen=True)
class Published:
    """An artifact on a hub.

    Attributes:
        repository: owner/name.
        commit: 40 hex digits, a revision that never changes.
        tag: the name that was given to this commit.
        url: of the commit, for people.
    """

    repository: str
    commit: str
    tag: str | None
    url: str

    @property
    def name(self) -> str:
        """What mounts, and pulls, exactly this: owner/name@revision."""
        return f"{self.repository}@{self.tag or self.commit}"


def push(
    folder: str | Path,
    repository: str,
    *,
    tag: str | None = None,
    private: bool | None = None,
    message: str | None = None,
) -> Published:
    """Publish an artifact: its four files and nothing else of its folder, in one commit.

    The manifest is published with them, so also the recipe with its paths, and the golden rows: a few rows of the data.

    Args:
        folder: of the artifact.
        repository: owner/name; it is made where it does not exist.
        tag: a name for this version, so that `pull("owner/name@tag")` always gives it. A tag never moves.
        private: whether a repository that is made is private. None: as its owner's settings say.
        message: of the commit.

    Raises:
        ArtifactError: the folder holds no artifact that could be read; nothing was published.
        HubError: a name that cannot be one, a tag that is taken, no right to write, or no hub.
    """
    check_publishable(repository, tag)
    artifact = open_artifact(folder)
    if Path(artifact.manifest.backbone.name).is_absolute():
        logger.warning(
            "the backbone is a folder of this machine (%s): others have to name theirs, which the fingerprint checks",
            artifact.manifest.backbone.name,
        )
    content = read_folder(folder).content
    additions = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=bytes(content[name])) for name in MAX_BYTES]
    hub = HfApi()
    done = ""
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        taken = [ref.name for ref in hub.list_repo_refs(repository).tags] if tag is not None else []
        if tag in taken:
            raise HubError(
                f"{repository} has a tag {tag} already, and a tag never moves",
                [f"tags: {', '.join(sorted(taken))}"],
                "Choose another tag.",
            )
        committed = hub.create_commit(repository, additions, commit_message=message or _message(artifact))
        done = f", but for its commit {committed.oid}, which has no tag yet"
        if tag is not None:
            hub.create_tag(repository, tag=tag, revision=committed.oid)
    except HubError:
        raise
    except _FAILURES as error:
        raise HubError(
            f"{repository} cannot be written{done}",
            [_first_line(reason) for reason in (error, error.__cause__) if reason is not None],
            "Log in with the right to write (hf auth login, or HF_TOKEN). HF_ENDPOINT names another hub, "
            "HF_HUB_OFFLINE=1 forbids them all.",
        ) from error
    return Published(repository, committed.oid, tag, committed.commit_url)


def pull(name: str, output: str | Path | None = None, *, overwrite: bool = False) -> Path:
    """Fetch an artifact from a hub, and check all that can be checked without its backbone.

    Args:
        name: owner/name or owner/name@revision, where a revision is a tag, a branch or a commit.
        output: the folder to write. None: one in adapterkit's cache folder.
        overwrite: whether what stands at `output` is replaced.

    Returns:
        The artifact's folder.

    Raises:
        HubError: the name is none, or the hub does not give it.
        ArtifactError: what the hub gives is damaged, unsafe, or no artifact; nothing is written to `output`.
        OutputError: something stands at `output`.
    """
    named = parse_hub_name(name)
    if output is not None:
        check_output(output, overwrite=overwrite)
    folder = _download(named)
    try:
        open_artifact(folder)
    except ArtifactError:
        shutil.rmtree(folder)  # it may be our copy that is damaged
        open_artifact(_download(named))
    if output is None:
        return folder
    write_folder(Path(output), read_folder(folder).content, overwrite=overwrite)
    return Path(output)


def find_folder(name: str) -> Path:
    """The folder of an artifact: the name itself, or what a hub gives for it.

    Raises:
        HubError: it is no folder, and no hub gives it.
    """
    folder = Path(name)
    if os.path.exists(folder):  # which says no to what can be no path
        return folder
    try:
        named = parse_hub_name(name)
    except HubError:  # then it can only be meant as a folder
        return folder
    return _download(named)


def _download(named: HubName) -> Path:
    """The four files of an artifact as plain files: a hub's own cache holds links, which an artifact may not."""
    folder, version = named.repository.replace("/", "--"), (named.revision or "main").replace("/", "--")
    try:
        return Path(
            huggingface_hub.snapshot_download(
                named.repository,
                revision=named.revision,
                allow_patterns=list(MAX_BYTES),
                local_dir=str(cache_folder() / "artifacts" / folder / version),
            )
        )
    except HUB_FAILURES as error:
        raise HubError(
            f"{named} is no folder here, and no hub gives it",
            [_first_line(error)],
            "Check the spelling and the network (HF_HUB_OFFLINE, HF_TOKEN), or name a folder.",
        ) from error


def _message(artifact: Artifact) -> str:
    manifest = artifact.manifest
    return f"{manifest.kind}, {manifest.method.kind} on {Path(manifest.backbone.name).name}"


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}".removesuffix(": ")
