"""Where an adapter to be mounted comes from: a folder, a hub, an opened artifact, a training result, or a plan."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import huggingface_hub

from adapterkit.artifact import Artifact, open_artifact
from adapterkit.artifact.folder import MAX_BYTES
from adapterkit.backbone.files import HUB_FAILURES
from adapterkit.backbone.fingerprint import cache_folder
from adapterkit.errors import ArtifactError
from adapterkit.host.compose.plan_file import load_plan
from adapterkit.host.composed import Plan


@runtime_checkable
class Trained(Protocol):
    """What a training run gives: the folder of its artifact."""

    @property
    def artifact(self) -> str | os.PathLike[str]: ...


Source = str | os.PathLike[str] | Artifact | Trained | Plan

PLANS = (".yaml", ".yml")
"""How the file of a plan ends."""

_HUB_ID = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?")


def open_source(source: Any) -> Artifact | Plan:
    """What is to be mounted, opened.

    Args:
        source: an artifact's folder; a hub id as owner/name or owner/name@revision, taken only where no such folder is
            there; an opened artifact; a training result; the YAML file of a plan; or a plan, given back as it is.

    Raises:
        ArtifactError: there is no such artifact, or it is refused.
        TypeError: none of these.
    """
    if isinstance(source, Artifact):
        return source
    if isinstance(source, str | os.PathLike):
        if Path(source).suffix in PLANS and Path(source).is_file():
            return load_plan(Path(source))
        return open_artifact(find_folder(os.fspath(source)))
    if hasattr(source, "build"):
        plan: Plan = source
        return plan
    if isinstance(source, Trained):
        return open_artifact(Path(source.artifact))
    raise TypeError(
        f"an artifact's folder, a hub id, an opened artifact or a plan can be mounted, not a {type(source).__name__}"
    )


def find_folder(place: str) -> Path:
    """The folder of an artifact: the place itself, or what a hub gives for it.

    Raises:
        ArtifactError: neither is there.
    """
    folder = Path(place)
    named = _HUB_ID.fullmatch(place)
    if folder.exists() or named is None:
        return folder
    return _download(named["name"], named["revision"])


def _download(name: str, revision: str | None) -> Path:
    """The four files of an artifact as plain files: a hub's own cache holds links, which an artifact may not."""
    place = cache_folder() / "artifacts" / name.replace("/", "--") / (revision or "main").replace("/", "--")
    try:
        return Path(
            huggingface_hub.snapshot_download(
                name, revision=revision, allow_patterns=list(MAX_BYTES), local_dir=str(place)
            )
        )
    except HUB_FAILURES as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise ArtifactError(
            f"{name}{f'@{revision}' if revision else ''} is no folder here, and no hub gives it",
            [f"{type(error).__name__}: {first}"],
            "Check the spelling and the network (HF_HUB_OFFLINE, HF_TOKEN), or name a folder.",
        ) from error
