"""Artifacts on a model hub: published in one commit, fetched as plain files, and checked on both ways."""

import logging
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError

from adapterkit.artifact.reading import Artifact, read_artifact
from adapterkit.backbone.files import HUB_FAILURES
from adapterkit.errors import AdapterkitError, ArtifactError, HubError, first_line
from adapterkit.manifest import FINDINGS, MAX_BYTES, MAX_SIGNATURE_BYTES, SIGNATURE, ArtifactName, Files, stage_folder
from adapterkit.manifest.signature import signature_beside
from adapterkit.own_folder import cache_folder
from adapterkit.report.hub_files import hub_pieces, read_hub

logger = logging.getLogger(__name__)

ORIGIN = ".cache/commit"
"""The commit that a copy is of, in a folder that an artifact may have beside its files."""
_FAILURES: tuple[type[Exception], ...] = (*HUB_FAILURES, RuntimeError)  # of an upload that breaks off


@dataclass(frozen=True)
class Published:
    """An artifact on a hub or in a store.

    Attributes:
        repository: owner/name, or the folder or URL of the store.
        commit: a revision that never changes: 40 hex digits of a hub's commit, or the 64 of the artifact's digest.
        tag: the name that was given to this version.
        url: of the version, for people.
    """

    repository: str
    commit: str
    tag: str | None
    url: str

    @property
    def name(self) -> str:
        """What mounts, and pulls, exactly this: owner/name@revision, or URL@revision."""
        return f"{self.repository}@{self.tag or self.commit}"


def publish(
    artifact: Artifact,
    files: Files,
    repository: str,
    *,
    signature: bytes | None = None,
    tag: str | None = None,
    private: bool | None = None,
    message: str | None = None,
) -> Published:
    """Publish an artifact on a hub, with its signature, and `findings.html` where it stands there, in one commit.
    Arguments, errors: as of `push`."""
    content = {name: bytes(raw) for name, raw in files.content.items()}
    if (findings := Path(files.folder) / FINDINGS).is_file():
        content[FINDINGS] = findings.read_bytes()
    hub, done, manifest = HfApi(), "", artifact.manifest
    said = f"{manifest.kind}, {manifest.method.kind} on {Path(manifest.backbone.name).name}"
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        taken = [ref.name for ref in hub.list_repo_refs(repository).tags] if tag is not None else []
        if tag in taken:
            raise HubError(
                f"{repository} has a tag {tag} already, and a tag never moves",
                [f"tags: {', '.join(sorted(taken))}"],
                "Choose another tag.",
            )
        there = hub.file_exists(repository, SIGNATURE)
        before = read_hub(repository, SIGNATURE, "main", MAX_SIGNATURE_BYTES) if there else None
        if (signature := signature_beside(before, signature, files, repository)) is not None:
            content[SIGNATURE] = signature
        additions = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=raw) for name, raw in content.items()]
        committed = hub.create_commit(repository, additions, commit_message=message or said)
        done = f", but for its commit {committed.oid}, which has no tag yet"
        if tag is not None:
            hub.create_tag(repository, tag=tag, revision=committed.oid)
    except AdapterkitError:
        raise
    except _FAILURES as error:
        raise HubError(
            f"{repository} cannot be written{done}",
            [_told(reason) for reason in (error, error.__cause__) if reason is not None],
            "Log in with the right to write (hf auth login, or HF_TOKEN). HF_ENDPOINT names another hub, "
            f"HF_HUB_OFFLINE=1 forbids them all. If a folder is meant: ./{repository}",
        ) from error
    return Published(repository, committed.oid, tag, committed.commit_url)


def fetch(named: ArtifactName, *, offline: bool = False) -> Path:
    """The folder of an artifact in the cache, as the hub has it; the copy from before where no hub can be reached."""
    revision, facts, reason = named.revision or "main", None, "offline nothing is fetched"
    folder = cache_folder() / "artifacts" / named.place.replace("/", "--") / revision.replace("/", "--")
    remedy = "Check the spelling and the network (HF_HUB_OFFLINE, HF_TOKEN), or name a folder or a URL."
    try:
        if not offline:
            facts = HfApi().model_info(named.place, revision=revision, files_metadata=True)
    except HUB_FAILURES as error:
        reason = _told(error)
        if isinstance(error, HfHubHTTPError) and 400 <= error.response.status_code < 500:
            raise HubError(f"there is no folder {named} here, and the hub refuses it", [reason], remedy) from error
    if facts is None:
        if not folder.exists():
            raise HubError(f"there is no folder {named} here, and no hub gives it", [reason], remedy)
        if not offline:
            logger.warning("no hub can be reached (%s): %s is the copy that was fetched before", reason, named)
        read_artifact(folder)
    elif not _is_whole(folder, str(facts.sha)):
        sizes = {file.rfilename: file.size for file in facts.siblings or ()}
        limits = {**MAX_BYTES, **({SIGNATURE: MAX_SIGNATURE_BYTES} if SIGNATURE in sizes else {})}
        problems = [
            f"{name}: the hub announces {sizes.get(name)!r:.40} bytes, expected at most {limit:,}"
            for name, limit in limits.items()
            if not isinstance(sizes.get(name), int) or not 0 <= (sizes[name] or 0) <= limit
        ]
        if problems:
            raise ArtifactError(f"{named} is no artifact that can be fetched", problems, "Nothing was fetched.")
        with stage_folder(folder, overwrite=True) as stage:
            for name in limits:
                _fetch_file(named, str(facts.sha), stage / name, sizes[name] or 0)
            (stage / ORIGIN).parent.mkdir()
            (stage / ORIGIN).write_text(str(facts.sha))
            read_artifact(stage)  # what is refused does not stay
    return folder


def _is_whole(folder: Path, commit: str) -> bool:
    """Whether the copy is of this commit, and sound."""
    try:
        return (folder / ORIGIN).read_text() == commit and read_artifact(folder) is not None
    except (OSError, ValueError):
        return False


def _fetch_file(named: ArtifactName, commit: str, path: Path, size_bytes: int) -> None:
    """Write one file, of exactly the size that was announced."""
    found_bytes = 0
    try:
        with open(path, "xb") as file, closing(hub_pieces(named.place, path.name, commit)) as pieces:
            for piece in pieces:
                found_bytes += len(piece)
                if found_bytes > size_bytes:
                    break
                file.write(piece)
    except HUB_FAILURES as error:
        raise HubError(f"{named} cannot be fetched", [f"{path.name}: {_told(error)}"], "Try again later.") from error
    if found_bytes != size_bytes:
        came = f"{path.name}: {'more than ' * (found_bytes > size_bytes)}{min(found_bytes, size_bytes):,} bytes came"
        raise ArtifactError(f"{named} cannot be fetched", [f"{came}, and the hub announced {size_bytes:,}"])


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error)}"
