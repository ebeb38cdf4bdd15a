"""What the types of a manifest cannot say: sizes that would be allocated, and fields that must agree."""

from __future__ import annotations

from adapterkit.manifest.facts import MAX_CLASSES, MAX_RANK, MAX_WIDTH, Manifest
from adapterkit.manifest.folder import CARD, CONFIG, MANIFEST, TENSORS
from adapterkit.recipe import KINDS, BottleneckMethod, FusionMethod, LoraMethod


def bound_problems(manifest: Manifest) -> list[str]:
    """Every problem of a manifest whose fields have the right types; [] where it has none."""
    problems = []
    method = manifest.method
    if manifest.kind not in KINDS:
        problems.append(f"{MANIFEST}: task.kind: found {manifest.kind!r:.40}, expected one of {', '.join(KINDS)}")
    if isinstance(method, LoraMethod):
        problems += [
            f"{MANIFEST}: method: alpha: found {alpha}, expected at most a million"
            for alpha in (method.alpha, *method.alpha_pattern.values())
            if alpha > 1e6
        ]
    if isinstance(method, LoraMethod):
        ranks = {"rank": method.rank, **{f"rank_pattern.{key}": rank for key, rank in method.rank_pattern.items()}}
        problems += [
            f"{MANIFEST}: method.{field}: found {rank:,}, expected at most {MAX_RANK:,}"
            for field, rank in ranks.items()
            if rank > MAX_RANK
        ]
    if isinstance(method, BottleneckMethod) and method.width is not None and method.width > MAX_WIDTH:
        problems.append(f"{MANIFEST}: method.width: found {method.width:,}, expected at most {MAX_WIDTH:,}")
    problems += _part_problems(manifest)
    if manifest.head.hidden is not None and manifest.head.hidden > MAX_WIDTH:
        problems.append(f"{MANIFEST}: head.hidden: found {manifest.head.hidden:,}, expected at most {MAX_WIDTH:,}")
    if len(manifest.labels) > MAX_CLASSES:
        problems.append(f"{MANIFEST}: task.labels: {len(manifest.labels):,}, expected at most {MAX_CLASSES:,}")
    if manifest.head.kind == "auto":
        problems.append(f"{MANIFEST}: head.kind: found 'auto', expected the kind that was built")
    expected = {CONFIG, TENSORS, CARD}
    if manifest.files.keys() != expected:
        names = ", ".join(sorted(manifest.files))[:200]
        problems.append(f"{MANIFEST}: files: found {names}, expected {', '.join(sorted(expected))}")
    if (manifest.parent is None) != (not manifest.history) or manifest.version != len(manifest.history) + 1:
        problems.append(f"{MANIFEST}: version, parent and history do not agree")
    elif manifest.history and manifest.history[-1].sha256 != manifest.parent:
        problems.append(f"{MANIFEST}: parent: it is not the last entry of history")
    return problems


def _part_problems(manifest: Manifest) -> list[str]:
    """What is wrong between a fusion and its parts."""
    method, parts = manifest.method, manifest.parts
    if not isinstance(method, FusionMethod):
        return [f"{MANIFEST}: parts: found {len(parts)}, and {method.kind} has none"] if parts else []
    problems = []
    if tuple(part.name for part in parts) != method.parts:
        problems.append(f"{MANIFEST}: parts: their names are not those that method.parts gives")
    placements = sorted({part.method.placement for part in parts})
    if len(placements) > 1:
        problems.append(f"{MANIFEST}: parts: placements {' and '.join(placements)}, expected one")
    if method.query_width is not None and method.query_width > MAX_WIDTH:
        problems.append(f"{MANIFEST}: method.query_width: found {method.query_width:,}, expected at most {MAX_WIDTH:,}")
    return problems
