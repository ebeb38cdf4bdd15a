"""What differs between two artifacts: facts, what was learned, and answers."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from adapterkit.adapted import PREFIX
from adapterkit.artifact import Artifact, open_artifact
from adapterkit.artifact.config import targets_of
from adapterkit.artifact.contents import method_target
from adapterkit.artifact.golden import compute_golden
from adapterkit.artifact.loading import find_backbone
from adapterkit.artifact.lowrank import LowRank
from adapterkit.backbone import Backbone
from adapterkit.evaluation.outcome import made
from adapterkit.manifest import GoldenRow, Manifest
from adapterkit.methods.table import method_of
from adapterkit.records import Answerer, DiffRecord
from adapterkit.records.versions import ChangeRecord, DistanceRecord, GoldenDiffRecord

COMPARED = ("recipe", "data", "task", "method", "parts", "head", "backbone", "seed", "dtype", "packages")
"""Blocks of the manifest that say what an artifact is, in the order in which they are told."""


def diff(
    a: str | Path,
    b: str | Path,
    *,
    backbone: Backbone | str | Path | None = None,
    parts: Mapping[str, str | Path] | None = None,
) -> DiffRecord:
    """Say what differs between two artifacts. No backbone is needed; with one, both answer the golden rows of both.

    What a low-rank method learned is compared by its ΔW at each module, which no choice of factors changes; all else by
    its tensors.

    Args:
        a: the folder of the one to compare with.
        b: the folder of the other.
        backbone: a loaded one that both fit, or where to load it from.
        parts: where parts of a fusion are, by name; None looks beside each.

    Raises:
        ArtifactError: one of them is damaged.
        ContractError, BackboneError: the backbone is not theirs, or cannot be loaded.
    """
    first, second = open_artifact(a, parts=parts), open_artifact(b, parts=parts)
    before, after = first.manifest, second.manifest
    added = [label for label in after.labels if label not in set(before.labels)]
    removed = [label for label in before.labels if label not in set(after.labels)]
    return DiffRecord(
        **made(),
        a=Answerer.of(before, before.golden.dtype),
        b=Answerer.of(after, after.golden.dtype),
        relation=_relation(before, after),
        changes=tuple(change for block in COMPARED for change in _changes(before, after, block)),
        labels_added=tuple(added),
        labels_removed=tuple(removed),
        metrics=tuple(_changes(before, after, "metrics")),
        learned=tuple(sorted(_distances(first, second), key=lambda one: (_farthest_first(one), one.name))),
        golden=tuple(_golden(first, second, None if backbone is None else find_backbone(first, backbone))),
    )


def _relation(a: Manifest, b: Manifest) -> str:
    if a.sha256 == b.sha256:
        return "the same artifact"
    lines = [{**{old.sha256: old.version for old in one.history}, one.sha256: one.version} for one in (a, b)]
    for older, newer, line in (("a", "b", lines[1]), ("b", "a", lines[0])):
        if (a if older == "a" else b).sha256 in line:
            return f"{newer} is a later version of {older}"
    if common := lines[0].keys() & lines[1].keys():
        return f"two versions of one artifact, the same up to version {max(lines[0][digest] for digest in common)}"
    return "made apart"


def _changes(a: Manifest, b: Manifest, block: str) -> Iterator[ChangeRecord]:
    before, after = (dict(_flat(one.model_dump(mode="json", include={block}))) for one in (a, b))
    for field in dict.fromkeys([*before, *after]):
        if before.get(field) != after.get(field):
            yield ChangeRecord(field=field, a=before.get(field), b=after.get(field))


def _flat(value: Any, field: str = "") -> Iterator[tuple[str, Any]]:
    """Fields with dots between their names; a metric with its interval is one."""
    if isinstance(value, dict) and value and "low" not in value:
        for name, inner in value.items():
            yield from _flat(inner, f"{field}.{name}" if field else name)
    else:
        yield field, value


def _distances(a: Artifact, b: Artifact) -> Iterator[DistanceRecord]:
    """Of every module and tensor that one of the two has."""
    found = [_learned(one) for one in (a, b)]
    for name in dict.fromkeys([*found[0], *found[1]]):
        one, other = (each.get(name) for each in found)
        norms = [None if each is None else float(each.norm()) for each in (one, other)]
        yield DistanceRecord(name=name, a=norms[0], b=norms[1], distance=_distance(one, other))


def _learned(artifact: Artifact) -> dict[str, LowRank | Tensor]:
    """The updates of a low-rank method by module, and every tensor that is no factor of one."""
    method, config, state = method_of(artifact.manifest.method), artifact.config, artifact.state
    updates: dict[str, LowRank | Tensor] = {}
    for target in targets_of(config) if method.low_rank else ():
        start = f"{PREFIX}{target}."
        tensors = {e: state[start + e].double() for e in method.endings if start + e in state}
        updates[target] = LowRank(*method.update_in_peft(config, target, tensors))
    kept = {
        name.removeprefix(PREFIX): tensor.double()
        for name, tensor in state.items()
        if tensor.dim() < 2 or method_target(name, method) not in updates  # DoRA's magnitude is no factor
    }
    return {**updates, **kept}


def _distance(a: LowRank | Tensor | None, b: LowRank | Tensor | None) -> float | None:
    if isinstance(a, LowRank) and isinstance(b, LowRank):
        return a.distance(b) if a.shape == b.shape else None
    if isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape:
        return float((a - b).norm())
    return None


def _farthest_first(each: DistanceRecord) -> float:
    if each.distance is None or each.a is None:
        return -math.inf
    return -each.distance / max(each.a, each.b or 0.0, 1e-300)


def _golden(a: Artifact, b: Artifact, backbone: Backbone | None) -> Iterator[GoldenDiffRecord]:
    kept = [{_key(each): each for each in one.manifest.golden.rows} for one in (a, b)]
    if backbone is not None:
        rows = list({**kept[0], **kept[1]}.values())
        kept = [_answered(one, backbone, rows) for one in (a, b)]
    for key, one in kept[0].items():
        other = kept[1].get(key)
        if other is not None:
            pairs = zip(one.numbers, other.numbers, strict=False)
            far = max(abs(x - y) for x, y in pairs) if len(one.numbers) == len(other.numbers) else None
            told = [each.prediction if each.text is None else each.text for each in (one, other)]
            yield GoldenDiffRecord(row=dict(one.row), a=told[0], b=told[1], distance=far)


def _answered(artifact: Artifact, backbone: Backbone, rows: list[GoldenRow]) -> dict[str, GoldenRow]:
    """Those of the rows that its task can read."""
    task = artifact.task
    usable = [dict(each.row) for each in rows if task.problem_of(each.row, task.proof) is None]
    with artifact.adapted(backbone) as adapted:
        return {_key(each): each for each in compute_golden(adapted, usable).rows}


def _key(golden: GoldenRow) -> str:
    return json.dumps(golden.row, sort_keys=True, ensure_ascii=False)
