"""What a fusion is made of: bottlenecks that were trained before, and that stay as they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from adapterkit.backbone.sites import Sublayer
from adapterkit.errors import RecipeError, SiteError
from adapterkit.recipe import BottleneckMethod


@dataclass(frozen=True, eq=False)
class Part:
    """One bottleneck adapter without its head, as a fusion calls it: the digest of its file of tensors, 64 hex digits,
    by which it is known again, its settings, and its tensors: path of a linear in the trunk -> ending
    ("bottleneck_down.weight", …) -> tensor."""

    name: str
    sha256: str
    settings: BottleneckMethod
    tensors: Mapping[str, Mapping[str, Tensor]]


def check_parts(parts: Sequence[Part]) -> None:
    """Check that parts can be fused with each other.
    Raises RecipeError: fewer than two, different placements, or different layers; names both sides."""
    problems = []
    if len(parts) < 2:
        problems.append(f"parts: found {len(parts)}, expected at least 2")
    for part in parts[1:]:
        first = parts[0]
        if part.settings.placement != first.settings.placement:
            problems.append(
                f"placement: {first.name} is {first.settings.placement}, {part.name} is {part.settings.placement}"
            )
        elif part.tensors.keys() != first.tensors.keys():
            mine, theirs = (sorted(set(a.tensors) - set(b.tensors)) for a, b in ((first, part), (part, first)))
            problems.append(
                f"layers: {_only(first, mine)}{'; ' if mine and theirs else ''}{_only(part, theirs)}, "
                "expected both at the same sublayers"
            )
    if problems:
        raise RecipeError(
            "these adapters cannot be fused",
            problems,
            "Fuse bottlenecks of one placement, trained on the same layers of one backbone.",
        )


def fusion_targets(sublayers: Sequence[Sublayer], parts: Sequence[Part]) -> dict[str, Sublayer]:
    """The sublayers at which the parts stand, by the trunk path of their linear. Raises RecipeError: the parts cannot
    be fused with each other; SiteError: a sublayer that this backbone does not have."""
    check_parts(parts)
    known = {sublayer.output: sublayer for sublayer in sublayers}
    strange = sorted(set(parts[0].tensors) - set(known))
    if strange:
        raise SiteError(
            "the parts stand at sublayers that this backbone does not have",
            [f"{path}: no sublayer ends there" for path in strange[:8]],
            "Take parts that were trained on this backbone.",
        )
    return {path: sublayer for path, sublayer in known.items() if path in parts[0].tensors}


def _only(part: Part, paths: Sequence[str]) -> str:
    if not paths:
        return ""
    more = f" and {len(paths) - 2} more" if len(paths) > 2 else ""
    return f"only {part.name} is at {', '.join(paths[:2])}{more}"
