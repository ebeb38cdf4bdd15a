"""Where an adapter to be mounted comes from: a folder, a hub, an opened artifact, a training run, or a composition."""

import os
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from adapterkit.artifact import Artifact, open_artifact
from adapterkit.compose.composition_file import load_composition
from adapterkit.compose.mountable import Composition


@runtime_checkable
class Trained(Protocol):
    """What a training run gives: the folder of its artifact."""

    @property
    def artifact(self) -> str | os.PathLike[str]: ...


Source = str | os.PathLike[str] | Artifact | Trained | Composition

COMPOSITION_ENDINGS = (".yaml", ".yml")
"""How the file of a composition ends."""


def open_source(source: Any) -> Artifact | Composition:
    """What is to be mounted, opened: an artifact's folder; the folder or URL of a store, or a hub id, each with
    @revision where one is meant, a hub's taken only where no such folder is there; an opened artifact; a training
    result; the YAML file of a composition; or a composition.

    Raises ArtifactError: it is not there, or refused; HubError: no hub gives it; TypeError: none of these.
    """
    if isinstance(source, Artifact):
        return source
    if isinstance(source, str | os.PathLike):
        if Path(source).suffix in COMPOSITION_ENDINGS and os.path.isfile(source):
            return load_composition(Path(source))
        return open_artifact(source if isinstance(source, str) else Path(source))
    if hasattr(source, "build"):
        composition: Composition = source
        return composition
    if isinstance(source, Trained):
        return open_artifact(Path(source.artifact))
    raise TypeError(
        f"a {type(source).__name__} cannot be mounted; "
        "give an artifact's folder or hub id, an opened artifact, a training result or a composition"
    )
