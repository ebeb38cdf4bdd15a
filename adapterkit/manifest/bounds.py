"""What the types of a manifest cannot say: sizes that would be allocated, and fields that must agree."""

from adapterkit.manifest.facts import MAX_CLASSES, Manifest
from adapterkit.manifest.folder import CARD, CONFIG, MANIFEST, TENSORS
from adapterkit.recipe import KINDS
from adapterkit.recipe.kinds import FACTS


def bound_problems(manifest: Manifest) -> list[str]:
    """Every problem of a manifest whose fields have the right types; [] where it has none."""
    problems = []
    if manifest.kind not in KINDS:
        problems.append(f"{MANIFEST}: task.kind: found {manifest.kind!r:.40}, expected one of {', '.join(KINDS)}")
    problems += _part_problems(manifest)
    if len(manifest.labels) > MAX_CLASSES:
        problems.append(f"{MANIFEST}: task.labels: {len(manifest.labels):,}, expected at most {MAX_CLASSES:,}")
    problems += _head_problems(manifest)
    expected = {CONFIG, TENSORS, CARD}
    if manifest.files.keys() != expected:
        names = ", ".join(sorted(manifest.files))[:200]
        problems.append(f"{MANIFEST}: files: found {names}, expected {', '.join(sorted(expected))}")
    if manifest.reference is not None:
        try:
            manifest.reference.states()
        except ValueError as error:
            problems.append(f"{MANIFEST}: reference: {error}")
    if (manifest.parent is None) != (not manifest.history) or manifest.version != len(manifest.history) + 1:
        problems.append(f"{MANIFEST}: version, parent and history do not agree")
    elif manifest.history and manifest.history[-1].sha256 != manifest.parent:
        problems.append(f"{MANIFEST}: parent: it is not the last entry of history")
    return problems


def _head_problems(manifest: Manifest) -> list[str]:
    """What a head leaves open. Nothing may be: whoever builds it must not have to ask the backbone, or a default."""
    head, facts = manifest.head, FACTS.get(manifest.kind)
    if not head.is_chosen:
        return [f"{MANIFEST}: head.kind: found 'auto' or nothing, expected the kind that was built"]
    if facts is None:
        return []
    pools = facts.pooled and head.pools
    if pools and head.pooling == "auto":
        return [f"{MANIFEST}: head.pooling: found 'auto' or nothing, expected mean, first or last: what was built"]
    if not pools and head.pooling != "auto":
        return [f"{MANIFEST}: head.pooling: found {head.pooling!r}, expected 'auto': this head pools nothing so"]
    if head.normalize and not facts.pooled:
        return [f"{MANIFEST}: head.normalize: found true, expected false: {manifest.kind} reads every token"]
    return []


def _part_problems(manifest: Manifest) -> list[str]:
    """What is wrong between a fusion and its parts."""
    names, wanted = tuple(part.name for part in manifest.parts), manifest.method.part_folders()
    problems = []
    if names != wanted:
        found, expected = (", ".join(these)[:200] or "none" for these in (names, wanted))
        problems.append(f"{MANIFEST}: parts: found {found}, expected {expected}: those that the method names")
    placements = sorted({part.method.placement for part in manifest.parts})
    if len(placements) > 1:
        problems.append(f"{MANIFEST}: parts: placements {' and '.join(placements)}, expected one")
    return problems
