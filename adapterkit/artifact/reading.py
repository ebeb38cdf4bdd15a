"""An artifact in a folder. Nothing in it is believed before it was checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from adapterkit.adapted import PREFIX, Adapted, build
from adapterkit.artifact.config import TOKENS
from adapterkit.artifact.contents import put_state, without_effect
from adapterkit.artifact.golden import row_problems
from adapterkit.artifact.parts import REMEDY, as_part, folders_of_parts, part_problems
from adapterkit.artifact.remembered_checks import check_tensors, read_config
from adapterkit.artifact.tensors import parse_header, read_tensors
from adapterkit.backbone import Backbone, Contract
from adapterkit.errors import AdapterkitError, ArtifactError, ContractError
from adapterkit.glance import in_short
from adapterkit.manifest import (
    CARD,
    CONFIG,
    MANIFEST,
    TENSORS,
    Manifest,
    file_problems,
    parse_manifest,
    read_folder,
    refused,
)
from adapterkit.methods.fusion.part import Part
from adapterkit.tasks.protocol import Task
from adapterkit.tasks.table import TASKS

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Artifact:
    """An adapter on disk, checked as far as that goes without its backbone.

    Attributes:
        folder: where it was read.
        manifest: what it says of itself.
        task: its task, with labels.
        contract: what it needs of a backbone.
        config: PEFT's adapter_config.json.
        state: its tensors by name, in the dtype they were saved in.
        card_is_original: whether README.md is as it was saved. People edit cards, and nothing is read from it.
        part_folders: where the caller says that parts of a fusion are, by name; the others lie beside `folder`.
    """

    folder: Path
    manifest: Manifest
    task: Task
    contract: Contract
    config: Mapping[str, Any]
    state: Mapping[str, Tensor]
    card_is_original: bool
    part_folders: Mapping[str, str | Path] = field(default_factory=dict)

    __repr__ = in_short(
        "folder", "kind=manifest.kind", "method=manifest.method.kind", "backbone=manifest.backbone.name"
    )

    @property
    def trained_with(self) -> dict[str, str]:
        """The names that columns had in training, where its recipe says so: canonical name -> name."""
        data = self.manifest.recipe.get("data")
        columns = data.get("columns") if isinstance(data, Mapping) else None
        pairs = columns.items() if isinstance(columns, Mapping) else ()
        # A manifest may hold anything; what is no name of a column can be no column of a row.
        return {name: column for name, column in pairs if name in self.task.columns and isinstance(column, str)}

    @property
    def without_effect(self) -> str:
        """Why its method changes nothing, whatever is asked; "" where it may change something."""
        heads = {PREFIX + path for path in self.manifest.head_tensors}
        return without_effect(self.manifest.method, heads, self.state)

    def check_backbone(
        self, backbone: Backbone, labels: Sequence[str] | None = None, *, other_version: bool = False
    ) -> None:
        """Check that a backbone, and the labels that the caller counts on, are those of this artifact.

        Args:
            labels: see `adapted`.
            other_version: whether its weights may be others, as long as all else fits.

        Raises:
            ContractError: naming both sides of every difference.
        """
        needed = self.manifest.backbone
        problems = []
        found = backbone.fingerprints.get(needed.coverage)
        if other_version:
            pass
        elif found is None:
            problems.append(
                f"fingerprint: artifact's covers the {needed.coverage} of the weights, this backbone's the "
                f"{backbone.coverage}; load it with fingerprint={needed.coverage!r}"
            )
        elif needed.fingerprint != found:
            problems.append(
                f"fingerprint: artifact was trained on {_short(needed.fingerprint)} ({needed.name}), "
                f"this backbone is {_short(found)} ({backbone.name})"
            )
        problems += self.contract.differences(backbone.contract, generates=self.task.generates)
        if labels is not None and tuple(labels) != self.task.labels:
            order = "the same labels in another order" if sorted(labels) == sorted(self.task.labels) else "other labels"
            problems.append(
                f"labels: artifact has {_listed(self.task.labels)}, expected {_listed(tuple(labels))} ({order})"
            )
        if problems:
            count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
            raise ContractError(
                f"{self.folder} does not fit this backbone ({count})",
                problems,
                "Load the backbone that the artifact names, or retrain: adapterkit train … "
                f"backbone.name={backbone.name}",
            )

    def adapted(
        self, backbone: Backbone, *, labels: Sequence[str] | None = None, other_version: bool = False
    ) -> Adapted:
        """Put the adapter on a backbone.

        Args:
            labels: the label names, in order, that the caller counts on; None takes the artifact's.
            other_version: put it on weights that it was not trained on, to see what they are worth to it.

        Raises:
            ContractError: the backbone or the labels are others.
            ArtifactError: the tensors are not exactly those of this adapter, or the parts of a fusion are missing or
                others; the backbone is as it was then.
        """
        self.check_backbone(backbone, labels, other_version=other_version)
        manifest, parts = self.manifest, self.parts(backbone)
        adapted = build(backbone, self.task, manifest.method, manifest.head, manifest.seed, parts=parts)
        try:
            told = {path: tuple(tokens) for path, tokens in self.config.get(TOKENS, {}).items()}
            if told != adapted.headed.token_rows:
                problem = f"{CONFIG}: {TOKENS}: found {told}, expected {dict(adapted.headed.token_rows)}"
                raise ArtifactError("The tokens with rows of their own are others on this backbone", [problem])
            put_state(adapted, self.state)
            adapted.trained_with = self.trained_with
        except AdapterkitError:
            adapted.detach()
            raise
        return adapted

    def parts(self, backbone: Backbone) -> tuple[Part, ...]:
        """The parts of a fusion, each the very one that it was trained with; () for every other method.

        Raises:
            ArtifactError: a part is missing, damaged or another one; names both sides.
            ContractError: a part belongs to another backbone.
        """
        return as_parts(self.open_parts(), backbone)

    def open_parts(self) -> dict[str, Artifact]:
        """The artifacts of a fusion's parts, by name; {} for every other method.

        Raises:
            ArtifactError: a part is missing, damaged or another one; names both sides.
        """
        facts = self.manifest.parts
        folders = folders_of_parts(self.folder, facts, self.part_folders)
        opened = {name: read_artifact(folder) for name, folder in folders.items()}
        problems = [
            problem for fact in facts for problem in part_problems(fact, folders[fact.name], opened[fact.name].manifest)
        ]
        if problems:
            raise ArtifactError(f"the parts of {self.folder} are not those it was trained with", problems, REMEDY)
        return opened


def as_parts(opened: Mapping[str, Artifact], backbone: Backbone) -> tuple[Part, ...]:
    """Artifacts as the parts of a fusion, by name.
    Raises ArtifactError: one is no bottleneck; ContractError: one belongs to another backbone."""
    for artifact in opened.values():
        artifact.check_backbone(backbone)
    return tuple(
        as_part(name, each.folder, each.manifest, each.config, each.state, backbone) for name, each in opened.items()
    )


def read_artifact(folder: str | Path, *, parts: Mapping[str, str | Path] | None = None) -> Artifact:
    """Read an artifact and check everything that can be checked without its backbone.
    `folder`: where it is. `parts`: where parts of a fusion are, by name; those that are not given are looked for beside
    `folder`, when they are needed. Raises ArtifactError: with every problem found."""
    files = read_folder(folder)
    problems: list[str] = []
    manifest = _tried(problems, parse_manifest, files.content[MANIFEST])
    config = _tried(problems, read_config, bytes(files.content[CONFIG]))
    header = _tried(problems, parse_header, files.content[TENSORS], TENSORS)
    if manifest is None or config is None or header is None:
        raise refused(files.folder, problems)
    problems += file_problems(files, manifest)
    contract = _tried(problems, Contract.from_dict, manifest.backbone.contract)
    task = _tried(problems, _task, manifest)
    described = bytes(files.content[TENSORS][: header.data_start])
    _tried(problems, check_tensors, manifest, config, bytes(files.content[CONFIG]), header, described)
    if task is not None:
        problems += [f"{MANIFEST}: {problem}" for problem in row_problems(task, manifest.golden)]
    if contract is None or task is None or problems:
        raise refused(files.folder, problems)
    try:
        state = read_tensors(files.content[TENSORS], header, TENSORS)
    except ArtifactError as error:
        raise refused(files.folder, error.problems) from error
    original = files.sha256(CARD) == manifest.files[CARD].sha256
    return Artifact(files.folder, manifest, task, contract, config, state, original, dict(parts or {}))


def _task(manifest: Manifest) -> Task:
    try:
        return TASKS[manifest.kind].from_dict(manifest.task)
    except AdapterkitError as error:
        raise ArtifactError(
            f"{MANIFEST} cannot be used", [f"{MANIFEST}: task: {item}" for item in error.problems or [error.summary]]
        ) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # A stored task with a field of another type, which its own checks do not foresee.
        raise ArtifactError(f"{MANIFEST} cannot be used", [f"{MANIFEST}: task: {str(error)[:200]}"]) from error


def _tried(problems: list[str], read: Callable[..., T], *given: Any) -> T | None:
    """What a function reads; None where it refuses, with its problems noted, so that all are reported at once."""
    try:
        return read(*given)
    except AdapterkitError as error:
        problems += error.problems or (error.summary,)
    return None


def _short(digest: str) -> str:
    return f"{digest[:4]}…{digest[-2:]}"


def _listed(labels: tuple[str, ...]) -> str:
    shown = ", ".join(repr(label)[:40] for label in labels[:8])
    return f"[{shown}{', …' if len(labels) > 8 else ''}] ({len(labels)})"
