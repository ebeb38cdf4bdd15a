"""The parts of a fusion: artifacts of their own, found by name and known again by digest.

A fusion's manifest holds no path. A part is looked for where the caller says, or beside the fusion under its own name,
which is one plain name; a link there is not followed. Whatever is found counts only if its tensors have the digest, and
its settings the values, that the fusion was trained with.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from adapterkit.adapted import PREFIX
from adapterkit.artifact.config import targets_of
from adapterkit.artifact.tensors import shortened
from adapterkit.artifact.updates import prefix_of
from adapterkit.backbone import Backbone
from adapterkit.errors import ArtifactError
from adapterkit.manifest import MANIFEST, TENSORS, Manifest, PartFacts
from adapterkit.methods.fusion.part import Part
from adapterkit.methods.table import method_of

REMEDY = 'Say where they are: parts={"NAME": "FOLDER"}, or --part NAME=FOLDER.'


def folders_of_parts(folder: Path, facts: tuple[PartFacts, ...], given: Mapping[str, str | Path]) -> dict[str, Path]:
    """Where each part of the fusion in `folder` is read: where the caller says, else beside the fusion.
    Raises ArtifactError: the caller names parts that the fusion does not have, or a part is not there."""
    names = [part.name for part in facts]
    problems = [
        f"{name}: not a part of this adapter, which has {', '.join(names) or 'none'}"
        for name in sorted(given)
        if name not in names
    ]
    found = {}
    for name in names:
        own = Path(given[name]) if name in given else Path(os.path.abspath(folder)).parent / name
        if name not in given and own.is_symlink():
            problems.append(f"{name}: {own} is a link, which is followed only where you name it")
        elif not os.path.isfile(own / MANIFEST):
            problems.append(f"{name}: no artifact at {own}")
        found[name] = own
    if problems:
        raise ArtifactError(f"the parts of {folder} are not there", problems, REMEDY)
    return found


def as_part(
    name: str,
    folder: Path,
    manifest: Manifest,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    backbone: Backbone,
) -> Part:
    """An artifact as a part, with its tensors by their path in the trunk.
    `name`: what the fusion calls it. `folder`: where it was read, for the messages. `config`: PEFT's. `state`: its
    tensors by name. Raises ArtifactError: it is no bottleneck, or its tensors are not those of a bottleneck on this
    backbone."""
    settings: Any = manifest.method
    method, hidden = method_of(settings), backbone.contract.hidden_size
    if not method.fuses:
        raise ArtifactError(
            f"{folder} cannot be a part of a fusion",
            [f"method: found {settings.kind}, expected bottleneck: the attention is over what bottlenecks add"],
            "Stack it, or combine it with others of its kind by weights.",
        )
    prefix, targets = prefix_of(config, backbone), targets_of(config)
    tensors: dict[str, dict[str, Tensor]] = {}
    for path in (sublayer.output for sublayer in backbone.sites.sublayers if prefix + sublayer.output in targets):
        start = f"{PREFIX}{prefix}{path}."
        tensors[path] = {ending: state[start + ending] for ending in method.endings if start + ending in state}
    lost = sorted(targets - {prefix + path for path in tensors})
    problems = [f"{TENSORS}: {target}: no sublayer of this backbone" for target in lost]
    sizes = method.shapes(settings, {"width": settings.size_at(hidden)}, "")
    expected = {ending: tuple(size or hidden for size in shape) for ending, shape in sizes.items()}
    for path, found in sorted(tensors.items()):
        shapes = {ending: tuple(tensor.shape) for ending, tensor in found.items()}
        if shapes != expected:
            problems.append(f"{TENSORS}: {path}: found {shapes}, expected {expected}")
    if problems:
        raise ArtifactError(f"{folder} does not hold the bottleneck that it describes", shortened(problems))
    return Part(name, manifest.files[TENSORS].sha256, settings, tensors)


def part_problems(facts: PartFacts, folder: Path, manifest: Manifest) -> list[str]:
    """How the artifact in a folder differs from the part that a fusion was trained with; names both sides."""
    found, settings = manifest.files[TENSORS].sha256, manifest.method
    if found == facts.sha256 and settings.computes == facts.method.computes:
        return []
    ours = f"trained with tensors {_short(facts.sha256)} ({facts.method.computes})"
    return [f"{facts.name}: {ours}, {folder} holds {_short(found)} ({settings.computes})"]


def _short(digest: str) -> str:
    return f"{digest[:8]}…{digest[-4:]}"
