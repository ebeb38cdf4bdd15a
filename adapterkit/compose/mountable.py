"""What a host mounts: methods applied one after the other, and the heads that answer above them.

An artifact is the plain case: one method, one head. A composition brings several of either.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from adapterkit.adapted import PREFIX
from adapterkit.artifact import Artifact
from adapterkit.backbone import Backbone
from adapterkit.recipe import HeadSettings, MethodSettings
from adapterkit.tasks.protocol import Task


@dataclass(frozen=True)
class Origin:
    """Where a head comes from.

    Attributes:
        source: the artifact's folder, or the name of the composition.
        version: the artifact's version number; 0 for what was never saved.
        sha256: the digest of the artifact's manifest; "" for what was never saved.
    """

    source: str = ""
    version: int = 0
    sha256: str = ""


@dataclass(frozen=True, eq=False)
class MethodState:
    """One method with its tensors, as an artifact holds them.

    Attributes:
        method: the method's settings.
        config: the content of adapter_config.json.
        state: the method's tensors by their names in an artifact (`base_model.model.…`); no tensor of a head.
        parts: the artifacts that a fusion is made of, by name.
    """

    method: MethodSettings
    config: Mapping[str, Any]
    state: Mapping[str, Tensor]
    parts: Mapping[str, Artifact] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class HeadState:
    """One head with its task and its tensors.

    Attributes:
        task: what is answered.
        head: the head's settings, with nothing left to `auto`.
        state: the head's tensors by their names in an artifact (`base_model.model.…`).
        origin: where it comes from.
        trained_with: the names that the task's columns had in training.
    """

    task: Task
    head: HeadSettings
    state: Mapping[str, Tensor]
    origin: Origin = Origin()
    trained_with: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Mountable:
    """What is mounted under one name.

    Attributes:
        methods: in the order in which a site applies them.
        heads: name -> head. With one head an answer is that head's; with several it is {name: answer}.
        report: what whoever mounts it should know (approximation errors, for example); JSON values.
    """

    methods: tuple[MethodState, ...]
    heads: Mapping[str, HeadState]
    report: Mapping[str, Any] = field(default_factory=dict)


Find = Callable[[str], Artifact]
"""A mounted name, a folder or a hub id -> its artifact, opened."""


class Composition(Protocol):
    """A composition that is not computed yet. A host computes it when it is mounted."""

    def build(self, find: Find, backbone: Backbone) -> Mountable:
        """Compute it from its members, for a backbone: its sites say which tensors belong together.

        Raises:
            AdapterkitError: the composition makes no sense.
        """
        ...


def of_artifact(artifact: Artifact) -> Mountable:
    """An artifact as the plain composition: its method and its head.

    Raises:
        ArtifactError: it is a fusion, and one of its parts is missing, damaged or another one.
    """
    manifest = artifact.manifest
    heads = {f"{PREFIX}{name}" for name in manifest.head_tensors}
    method = {name: tensor for name, tensor in artifact.state.items() if name not in heads}
    head = {name: tensor for name, tensor in artifact.state.items() if name in heads}
    origin = Origin(str(artifact.folder), manifest.version, manifest.sha256)
    state = MethodState(manifest.method, artifact.config, method, artifact.open_parts())
    return Mountable((state,), {"": HeadState(artifact.task, manifest.head, head, origin, artifact.trained_with)})
