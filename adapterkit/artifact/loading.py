"""Open an artifact wherever it is, and put it on a backbone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from adapterkit.adapted import Adapted
from adapterkit.artifact.reading import Artifact, as_parts, read_artifact
from adapterkit.artifact.sharing import find_folder
from adapterkit.backbone import Backbone
from adapterkit.methods.fusion.part import Part
from adapterkit.recipe import MethodSettings
from adapterkit.recipe.methods import part_name


def open_artifact(source: str | Path, *, parts: Mapping[str, str | Path] | None = None) -> Artifact:
    """Read an artifact and check everything that can be checked without its backbone.

    Args:
        source: a folder, a URL of fsspec, or a name on a hub, the latter two with @revision where one is meant.
        parts: where parts of a fusion are, by name; those that are not given are looked for beside it, when they
            are needed.

    Raises:
        ArtifactError: with every problem found.
        HubError: the hub, or the store, does not give it.
    """
    return read_artifact(find_folder(source), parts={name: find_folder(part) for name, part in (parts or {}).items()})


def read_parts(method: MethodSettings, backbone: Backbone) -> tuple[Part, ...]:
    """The parts that a recipe's fusion names by their folders; () for every other method.
    Raises ArtifactError: a folder is no artifact, or no bottleneck; ContractError: a part of another backbone."""
    return as_parts({part_name(folder): open_artifact(folder) for folder in method.part_folders()}, backbone)


def load(
    folder: str | Path,
    backbone: Backbone | str | Path | None = None,
    *,
    labels: Sequence[str] | None = None,
    parts: Mapping[str, str | Path] | None = None,
) -> Adapted:
    """Read an artifact and put it on its backbone.

    Args:
        folder: the artifact.
        backbone: a loaded backbone, or where to load it from. None loads the one that the artifact names, without
            any code of its own: what an artifact says can never turn `trust_remote_code` on.
        labels: the label names, in order, that the caller counts on.
        parts: where parts of a fusion are, by name; None looks beside `folder`.

    Raises:
        ArtifactError: the artifact is damaged or unsafe, or parts of a fusion are missing or others.
        ContractError: the backbone or the labels are others.
        BackboneError: the backbone cannot be loaded.
    """
    artifact = open_artifact(folder, parts=parts)
    return artifact.adapted(find_backbone(artifact, backbone), labels=labels)


def find_backbone(artifact: Artifact, backbone: Backbone | str | Path | None, dtype: str = "auto") -> Backbone:
    """The backbone itself, the one in that folder, or the one that the artifact names, loaded in a dtype."""
    if isinstance(backbone, Backbone):
        return backbone
    coverage = artifact.manifest.backbone.coverage
    if backbone is not None:
        return Backbone.load(str(backbone), dtype=dtype, fingerprint=coverage)
    named = artifact.manifest.backbone
    return Backbone.load(named.name, revision=named.revision, dtype=dtype, fingerprint=coverage)
