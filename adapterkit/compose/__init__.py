"""Compositions of adapters, which are mounted like artifacts. `ak.compose`.

    ak.compose.weighted({"a": 0.7, "b": 0.3})      Σ w·ΔW of LoRA adapters, exactly or approximated
    ak.compose.average("a", "b")                   the mean of parameters of adapters that are built alike
    ak.compose.stack("language", "task")           one on top of the other
    ak.compose.fuse(["runs/a", "runs/b"], recipe)  attention over bottlenecks: a recipe, to be trained first

A member is what the host has mounted under that name, or a folder or hub id.
"""

from collections.abc import Mapping, Sequence

from adapterkit.compose.average import Average
from adapterkit.compose.composition_file import load_composition
from adapterkit.compose.file_schema import composition_schema
from adapterkit.compose.fused import fuse
from adapterkit.compose.members import chosen_heads
from adapterkit.compose.saving import Composed, compose_file, save
from adapterkit.compose.stacked import Stack, Stackable, offered_by
from adapterkit.compose.weighted import How, Weighted
from adapterkit.errors import CompositionError

__all__ = [
    "Average",
    "Composed",
    "How",
    "Stack",
    "Stackable",
    "Weighted",
    "average",
    "compose_file",
    "composition_schema",
    "fuse",
    "load_composition",
    "save",
    "stack",
    "weighted",
]


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
    members = tuple((name, name) for name in weights)
    chosen = chosen_heads(head, heads, [name for name, _ in members][:1])
    return Weighted(members, tuple(weights.values()), chosen, how, rank, density, seed)


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
    shares = (1.0,) * len(members) if weights is None else tuple(weights)
    return Average(tuple((name, name) for name in members), shares, chosen_heads(head, heads, members[:1]))


def stack(*members: str | Stackable, head: str | None = None, heads: Sequence[str] | None = None) -> Stack:
    """Adapters one on top of the other, the lowest first. A member may be a composition itself.

    Args:
        members: LoRA and bottleneck adapters in any order.
        head: the member whose head answers; None takes the last one's.
        heads: several of them instead; answers then are {member: answer}.

    Raises:
        CompositionError: with every problem.
    """
    named = tuple((member if isinstance(member, str) else member.words(), member) for member in members)
    last = offered_by(*named[-1]) if named else ()
    return Stack(named, chosen_heads(head, heads, last))
