"""Compositions of adapters, which are mounted like artifacts. `ak.compose`.

    ak.compose.weighted({"a": 0.7, "b": 0.3})      Σ w·ΔW of LoRA adapters, exactly or approximated
    ak.compose.average("a", "b")                   the mean of parameters of adapters that are built alike
    ak.compose.stack("language", "task")           one on top of the other
    ak.compose.fuse(["runs/a", "runs/b"], recipe)  attention over bottlenecks: a recipe, to be trained first

A member is what the host has mounted under that name, or a folder or hub id.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from adapterkit.compose.any_composition import AnyComposition
from adapterkit.compose.average import Average
from adapterkit.compose.composition_file import checked, composition_schema, load_composition
from adapterkit.compose.fused import fuse
from adapterkit.compose.saving import Composed, compose_file, save
from adapterkit.compose.stacked import Stack
from adapterkit.compose.weighted import How, Weighted
from adapterkit.errors import CompositionError

__all__ = [
    "Average", "Composed", "How", "Stack", "Weighted", "average", "compose_file", "composition_schema", "fuse",
    "load_composition", "save", "stack", "weighted",
]  # fmt: skip


def weighted(
    weights: Mapping[str, float],
    *,
    head: str | None = None,
    heads: Sequence[str] | None = None,
    how: How = "exact",
    rank: int | None = None,
    density: float | None = None,
    seed: int | None = None,
) -> Weighted:
    """Σ w·ΔW of LoRA adapters as one LoRA.

    Args:
        weights: member -> weight; negative ones subtract.
        head: the member whose head answers; None takes the first one's.
        heads: several of them instead; answers then are {member: answer}.
        how: "exact" keeps everything, at the sum of the ranks. "svd" is the nearest update of a rank. "ties", "dare"
            and "magnitude" leave out entries first. The report says how far these are from the exact sum.
        rank: of an approximation; None takes the highest of the members'.
        density: share of the entries that "ties", "dare" and "magnitude" keep.
        seed: of the entries that "dare" drops; None is 0.

    Raises:
        CompositionError: with every problem.
    """
    if not isinstance(weights, Mapping):
        raise CompositionError(
            "weighted takes members with their weights",
            [f"found {type(weights).__name__}, expected a mapping"],
            'As in weighted({"a": 0.7, "b": 0.3}).',
        )
    given = {"members": tuple(weights), "weights": dict(weights), "head": head, "heads": heads, "how": how}
    block = {"weighted": {**given, "rank": rank, "density": density, "seed": seed}}
    return checked(block, "weighted(…)")  # type: ignore[return-value]


def average(
    *members: str, weights: Sequence[float] | None = None, head: str | None = None, heads: Sequence[str] | None = None
) -> Average:
    """The mean of the parameters of adapters that are built alike: bottlenecks, or LoRAs from one start.

    Args:
        members: whose parameters.
        weights: one for each member, of which the shares count; None weighs all alike.
        head: the member whose head answers; None takes the first one's.
        heads: several of them instead; answers then are {member: answer}.

    Raises:
        CompositionError: with every problem.
    """
    if weights is not None and len(weights) != len(members):
        raise CompositionError("average(…) makes no sense", [f"weights: {len(weights)} for {len(members)} members"])
    shares = None if weights is None else dict(zip(members, weights, strict=True))
    block = {"average": {"members": members, "weights": shares, "head": head, "heads": heads}}
    return checked(block, "average(…)")  # type: ignore[return-value]


def stack(
    *members: str | Weighted | Average | Stack, head: str | None = None, heads: Sequence[str] | None = None
) -> Stack:
    """Adapters one on top of the other, the lowest first. A member may be a composition itself.

    Args:
        members: LoRA and bottleneck adapters in any order.
        head: the member whose head answers; None takes the last one's.
        heads: several of them instead; answers then are {member: answer}.

    Raises:
        CompositionError: with every problem.
    """
    named: list[tuple[str, Any]] = [
        (each.words(), {each.kind: each}) if isinstance(each, AnyComposition) else (str(each), each) for each in members
    ]
    names = tuple(name for name, _ in named)
    # A mapping would swallow what stands there twice.
    given = dict(named) if len({*names}) == len(names) and names != members else names
    return checked({"stack": {"members": given, "head": head, "heads": heads}}, "stack(…)")  # type: ignore[return-value]
