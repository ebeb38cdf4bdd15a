"""Whose representations are looked at: bare backbones, and adapters on them."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from torch import nn

from adapterkit.artifact import Artifact, open_artifact
from adapterkit.artifact.loading import find_backbone
from adapterkit.backbone import Backbone
from adapterkit.errors import DataError
from adapterkit.manifest import MANIFEST, parse_store_name

Named = str | Path | Backbone
"""The folder of an artifact; a backbone, or where to load it from."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A backbone, bare or with an adapter, under a name that no other of one list has."""

    name: str
    backbone: Backbone
    artifact: Artifact | None = None

    @property
    def digest(self) -> str:
        """Of all that its states depend on besides the text: the backbone's fingerprint and the artifact's digest."""
        artifact = "" if self.artifact is None else self.artifact.manifest.sha256
        return hashlib.sha256(f"probe {self.backbone.fingerprint} {artifact}".encode()).hexdigest()

    @contextmanager
    def trunk(self) -> Iterator[nn.Module]:
        """What makes hidden states of a text; of an encoder-decoder its encoder, which reads nothing but the text.
        Raises ContractError: the artifact belongs to another backbone."""
        if self.artifact is None:
            yield _reading(self.backbone)
            return
        with self.artifact.adapted(self.backbone) as adapted:
            yield _reading(adapted.backbone)


def _reading(backbone: Backbone) -> nn.Module:
    return backbone.trunk.get_submodule("encoder") if backbone.is_encoder_decoder else backbone.trunk


def subjects_of(named: Named | Sequence[Named], backbone: Named | None = None) -> list[Subject]:
    """Backbones and artifacts, each of these behind the backbone that it was trained on, from folders of artifacts,
    backbones, and folders or ids to load these from. `backbone`: None loads what each artifact names.

    Raises ArtifactError, BackboneError: something cannot be read; ContractError: an artifact belongs to another
    backbone; DataError: nothing is named.
    """
    several = [named] if isinstance(named, str | Path | Backbone) else named
    opened: list[Artifact | Backbone] = []
    for place in several:
        if isinstance(place, Backbone):
            opened.append(place)
        else:
            is_run = (Path(place) / MANIFEST).is_file() or parse_store_name(str(place)) is not None
            opened.append(open_artifact(place) if is_run else Backbone.load(place))
    if not opened and backbone is not None:
        opened = [backbone if isinstance(backbone, Backbone) else Backbone.load(backbone)]
    if not opened:
        raise DataError("nothing is named to look into", remedy="Name a backbone, or the folder of an artifact.")
    loaded: dict[str, Backbone] = {}
    bare: dict[str, Subject] = {}
    found: list[Subject] = []
    names: set[str] = set()
    for one in opened:
        frozen = one if isinstance(one, Backbone) else _under(one, backbone, loaded)
        if frozen.fingerprint not in bare:
            bare[frozen.fingerprint] = Subject(_unlike(Path(frozen.name).name, names), frozen)
            found.append(bare[frozen.fingerprint])
        if isinstance(one, Artifact):
            found.append(Subject(_unlike(one.folder.name, names), bare[frozen.fingerprint].backbone, one))
    return found


def _under(artifact: Artifact, backbone: Named | None, loaded: dict[str, Backbone]) -> Backbone:
    """The backbone that an artifact stands on, loaded once for all that stand on it."""
    facts = artifact.manifest.backbone
    key = f"{facts.name} {facts.revision} {facts.coverage}" if backbone is None else ""
    if key not in loaded:
        loaded[key] = find_backbone(artifact, backbone)
    artifact.check_backbone(loaded[key])
    return loaded[key]


def _unlike(name: str, names: set[str]) -> str:
    """The name, with a number behind it where it is taken."""
    tried = (f"{name}-{number}" if number > 1 else name or "backbone" for number in count(1))
    names.add(found := next(one for one in tried if one not in names))
    return found
