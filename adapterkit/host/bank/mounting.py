"""From an artifact or a composition to what a host keeps of it: checked, packed, and seated in the bank."""

import logging
import os
from collections.abc import Mapping, Sequence
from functools import cache, partial

from adapterkit.artifact import Artifact
from adapterkit.artifact.reading import as_parts
from adapterkit.backbone import Backbone
from adapterkit.compose.mountable import Mountable, Origin, of_artifact
from adapterkit.compose.signing import statement_of_composition
from adapterkit.errors import AdapterkitError, ArtifactError
from adapterkit.host.bank.mounted import Mounted, MountedHead
from adapterkit.host.bank.residency import Bank, Loaded
from adapterkit.host.bank.sources import Source, open_source
from adapterkit.host.engine.heads import Templates
from adapterkit.host.packing.packers import pack
from adapterkit.manifest.signature import check_statement, read_signature, signers_of
from adapterkit.tasks.asked import Asked

logger = logging.getLogger(__name__)

PROVEN_ABOVE = 1e6
"""Trained weights stay far below. With a larger one an artifact has to give its golden rows a number before it is
mounted; the others need not wait for that, since `predict` names every row whose answer is none."""


class Mounting:
    """Prepares what is to be mounted; holds the modules of heads in `templates`."""

    def __init__(self, backbone: Backbone, bank: Bank, table: Mapping[str, Mounted], keys: Sequence[str] = ()) -> None:
        """`backbone`: bare. `bank`: where tensors are seated. `table`: what is mounted at any moment; compositions name
        their members by it. `keys`: of which one must have signed every artifact; () mounts unsigned ones too."""
        self.templates = Templates(backbone)
        self._backbone = backbone
        self._bank = bank
        self._table = table
        self._keys = keys

    def prepare(self, name: str, source: Source, version: int) -> Mounted:
        """Everything that mounting needs and that may fail, before anything is changed."""
        opened = open_source(source)
        if isinstance(opened, Artifact):
            opened.check_backbone(self._backbone)
            if opened.manifest.method.attaches and (reason := opened.without_effect):
                logger.warning("the method of %s changes nothing: %s", opened.folder, reason)
            self._check_signed(opened)
            composed = of_artifact(opened)
            origin = composed.heads[""].origin
        else:
            origin = Origin()
            find = cache(self.artifact)  # what is signed is what is built
            if self._keys and isinstance(source, str | os.PathLike):  # a file, which others may have written
                stated = statement_of_composition(opened, find)
                check_statement(read_signature(os.fspath(source)), stated, source, self._keys)
            composed = opened.build(find, self._backbone)
        heads = {
            key: MountedHead(
                Asked(own.task, own.trained_with, called=name),
                self.templates.get(own.task.kind, own.task.classes, own.head),
            )
            for key, own in composed.heads.items()
        }
        methods = [own.method for own in composed.methods]
        loaded = self.load(composed)
        if isinstance(opened, Artifact) and loaded.largest > PROVEN_ABOVE:
            self._check_proven(opened, loaded.largest)
        seat = self._bank.admit(loaded, partial(self._again, name, origin))
        words = " + ".join(method.label for method in methods if method.attaches) or "none"
        sizes = [size for method in methods if (size := method.size_at(self._backbone.hidden_size)) is not None]
        answers_with, rank = self._backbone.fingerprint, max(sizes, default=None)
        return Mounted(name, version, origin, heads, words, rank, seat, composed.report, answers_with)

    def _check_signed(self, opened: Artifact) -> None:
        """Where signatures are required, an artifact has to have one; each member of a composition too."""
        if self._keys:
            signers_of(opened.folder, opened.manifest, self._keys)

    def _check_proven(self, opened: Artifact, largest: float) -> None:
        from adapterkit.artifact.verification import verify

        report = verify(opened.folder, self._backbone, parts=opened.part_folders)
        if problems := [f"{check.name}: {check.detail}" for check in report.checks if not check.ok]:
            raise ArtifactError(
                f"{opened.folder} has weights of up to {largest:.3g}, and is not proven to answer with numbers",
                problems,
                "Train it anew with a lower learning rate.",
            )

    def load(self, composed: Mountable) -> Loaded:
        packed = [
            pack(own.method, own.config, own.state, self._backbone, as_parts(own.parts, self._backbone))
            for own in composed.methods
        ]
        heads = {
            key: self.templates.head(own.task.kind, own.task.classes, own.head, own.state)
            for key, own in composed.heads.items()
        }
        return Loaded(tuple(method for method in packed if method is not None), heads)

    def _again(self, name: str, origin: Origin) -> Loaded:
        """Load a mounted artifact anew, should the file be lost in which it waits."""
        try:
            opened = open_source(origin.source) if origin.sha256 else None
        except AdapterkitError as error:
            raise _changed(name, origin) from error
        if not isinstance(opened, Artifact) or opened.manifest.sha256 != origin.sha256:
            raise _changed(name, origin)
        return self.load(of_artifact(opened))

    def artifact(self, name: str) -> Artifact:
        """What a composition means by a member: a mounted name first, then a folder or a hub id."""
        mounted = self._table.get(name)
        if mounted is not None and not mounted.origin.sha256:
            raise ArtifactError(
                f"{name!r} is mounted as a composition, and a composition is made of artifacts",
                remedy="Compose it from the members of that one.",
            )
        opened = open_source(name if mounted is None else mounted.origin.source)
        if not isinstance(opened, Artifact):
            raise ArtifactError(f"{name!r} is no artifact, and a composition is made of artifacts")
        if mounted is not None and opened.manifest.sha256 != mounted.origin.sha256:
            raise _changed(name, mounted.origin)
        self._check_signed(opened)
        opened.check_backbone(self._backbone)
        return opened


def _changed(name: str, origin: Origin) -> ArtifactError:
    return ArtifactError(
        f"{name!r} is mounted and cannot be read again",
        [f"{origin.source or 'a composition'}: expected the version {origin.sha256[:12] or 'that was composed'}…"],
        f"Swap it for what is there now: host.swap({name!r}, …).",
    )
