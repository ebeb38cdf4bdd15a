"""`weighted`: Σ w·ΔW of LoRA adapters as one LoRA, exactly or approximated at a given rank.

Axes: I inputs, O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from adapterkit.artifact import Artifact
from adapterkit.backbone import Backbone, Site
from adapterkit.compose import approximate
from adapterkit.compose.lowrank import LowRank, concatenated, nearest_of_rank, truncated
from adapterkit.compose.members import check_heads, check_together, heads_of, method_state, open_members
from adapterkit.compose.mountable import Find, Mountable
from adapterkit.compose.updates import lora_of, updates_of
from adapterkit.errors import CompositionError
from adapterkit.methods.table import method_of
from adapterkit.recipe.methods import MAX_RANK
from adapterkit.recipe.suggestions import did_you_mean

How = Literal["exact", "svd", "ties", "dare", "magnitude"]
HOWS: tuple[How, ...] = get_args(How)
SPARSE = ("ties", "dare", "magnitude")
"""Those that leave out entries, and so need a density."""


@dataclass(frozen=True)
class Weighted:
    """Σ w·ΔW of LoRA adapters: a composition. Made by `weighted`.

    Attributes:
        members: (name in the composition, what is looked for) of each.
        weights: of each member.
        heads: the members whose heads answer.
        how: "exact", "svd", "ties", "dare" or "magnitude".
        rank: of an approximation; None takes the highest of the members'.
        density: share of the entries that ties, dare and magnitude keep.
        seed: of dare's masks.

    Raises:
        CompositionError: with every problem.
    """

    members: tuple[tuple[str, str], ...]
    weights: tuple[float, ...]
    heads: tuple[str, ...]
    how: How = "exact"
    rank: int | None = None
    density: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        problems = self._problems()
        if problems:
            raise CompositionError("this weighted composition makes no sense", problems)

    def words(self) -> str:
        """The composition in one line: `0.7·a + 0.3·b (exact)`."""
        terms = " + ".join(f"{weight:g}·{name}" for (name, _), weight in zip(self.members, self.weights, strict=True))
        more = [self.how, *(f"{k} {v:g}" for k in ("rank", "density", "seed") if (v := getattr(self, k)) is not None)]
        return f"{terms} ({', '.join(more)})"

    def build(self, find: Find, backbone: Backbone) -> Mountable:
        """The LoRA, with the error of an approximation in the report. Raises CompositionError: a member that is not
        found, or that is no plain LoRA; ContractError: a member of another backbone."""
        members = open_members(dict(self.members), find)
        check_together(members, backbone)
        _check_additive(members)
        updates = {name: updates_of(method_state(artifact), backbone) for name, artifact in members.items()}
        weights = dict(zip(members, self.weights, strict=True))
        active = [name for name, weight in weights.items() if weight != 0]
        sites = [site for site in backbone.sites.sites if any(site in updates[name] for name in active or members)]
        rank = self.rank or max(update.rank for found in updates.values() for update in found.values())
        merged: dict[Site, LowRank] = {}
        errors = _Errors()
        for site in sites:
            exact = _exact([(weights[name], updates[name].get(site)) for name in members])
            merged[site] = self._approximated(site, exact, weights, updates, rank) if active else exact
            if self.how != "exact":
                errors.add(site.path, exact, merged[site])
        own = lora_of(merged, members[self.heads[0]], backbone)
        return Mountable((own,), heads_of(self.heads, members, self.words()), self._report(members, merged, errors))

    def _approximated(
        self, site: Site, exact: LowRank, weights: Mapping[str, float], updates: Mapping[str, Any], rank: int
    ) -> LowRank:
        if self.how == "exact":
            return exact
        if self.how == "svd":
            return truncated(exact, rank)
        density = self.density or 1.0
        names = [name for name, weight in weights.items() if weight != 0]
        used = [weights[name] for name in names]
        outputs, inputs = exact.b.shape[0], exact.a.shape[1]
        deltas = [
            updates[name][site].matrix() if site in updates[name] else torch.zeros(outputs, inputs).double()
            for name in names
        ]
        return nearest_of_rank(self._thinned(site, names, deltas, used, density), rank)

    def _thinned(
        self, site: Site, names: Sequence[str], deltas: Sequence[Tensor], weights: Sequence[float], density: float
    ) -> Tensor:
        if self.how == "ties":
            return approximate.ties(deltas, weights, density)
        if self.how == "magnitude":
            return approximate.magnitude(deltas, weights, density)
        seeds = [approximate.mask_seed(self.seed or 0, name, site.path) for name in names]
        return approximate.dare(deltas, weights, density, seeds)

    def _report(
        self, members: Mapping[str, Artifact], merged: Mapping[Site, LowRank], errors: _Errors
    ) -> dict[str, Any]:
        ranks = [max(1, update.rank) for update in merged.values()]
        return {
            "composition": "weighted",
            "how": self.how,
            "words": self.words(),
            "members": [
                {"name": name, "weight": weight, "sha256": artifact.manifest.sha256}
                for (name, artifact), weight in zip(members.items(), self.weights, strict=True)
            ],
            "heads": list(self.heads),
            "rank": {"lowest": min(ranks), "highest": max(ranks)},
            "error": {"overall": errors.overall(), "sites": errors.sites()},
        }

    def _problems(self) -> list[str]:
        names = [name for name, _ in self.members]
        problems = [] if names else ["members: none; name at least one"]
        if len(self.weights) != len(names):
            problems.append(f"weights: {len(self.weights)} for {len(names)} members")
        problems += [
            f"weights.{name}: found {weight!r}, expected a finite number"
            for name, weight in zip(names, self.weights, strict=False)
            if not is_finite(weight)
        ]
        problems += check_heads(self.heads, names) if names else []
        if self.how not in HOWS:
            return [
                *problems,
                f"how: found {self.how!r}, expected {', '.join(HOWS)}{did_you_mean(str(self.how), HOWS)}",
            ]
        if self.rank is not None and (type(self.rank) is not int or not 1 <= self.rank <= MAX_RANK):
            problems.append(f"rank: found {self.rank!r}, expected 1 to {MAX_RANK:,}")
        elif self.rank is not None and self.how == "exact":
            problems.append("rank: given, and an exact sum has the sum of the ranks; leave it out")
        if self.how in SPARSE and self.density is None:
            problems.append(f"density: missing; {self.how} needs the share of the entries that it keeps")
        elif self.how not in SPARSE and self.density is not None:
            problems.append(f"density: given, and {self.how} keeps every entry; leave it out")
        elif self.density is not None and not (is_finite(self.density) and 0 < self.density <= 1):
            problems.append(f"density: found {self.density!r}, expected above 0 and at most 1")
        if self.seed is not None and self.how != "dare":
            problems.append(f"seed: given, and {self.how} draws nothing; leave it out")
        elif self.seed is not None and (type(self.seed) is not int or self.seed < 0):
            problems.append(f"seed: found {self.seed!r}, expected a whole number of at least 0")
        return problems


class _Errors:
    """How far approximations are from what they stand for, by site: ‖found − exact‖ and ‖exact‖."""

    def __init__(self) -> None:
        self._norms: dict[str, tuple[float, float]] = {}

    def add(self, path: str, exact: LowRank, found: LowRank) -> None:
        self._norms[path] = concatenated([(1.0, found), (-1.0, exact)]).norm(), exact.norm()

    def sites(self) -> dict[str, float]:
        """‖found − exact‖ / ‖exact‖ for each site."""
        return {path: _ratio(missed, norm) for path, (missed, norm) in self._norms.items()}

    def overall(self) -> float:
        """The same over all sites together."""
        missed = math.sqrt(sum(missed**2 for missed, _ in self._norms.values()))
        return _ratio(missed, math.sqrt(sum(norm**2 for _, norm in self._norms.values())))


def _ratio(missed: float, norm: float) -> float:
    """A share of nothing is all of it, unless nothing is missed."""
    return missed / norm if norm > 0 else float(missed > 0)


def _exact(terms: Sequence[tuple[float, LowRank | None]]) -> LowRank:
    """Σ w·ΔW. Weights of 0 leave nothing, not even rank."""
    present = [(weight, update) for weight, update in terms if update is not None]
    used = [(weight, update) for weight, update in present if weight != 0]
    if used:
        return concatenated(used)
    _, shape = present[0]
    return LowRank(shape.a[:0], shape.b[:, :0])


def _check_additive(members: Mapping[str, Artifact]) -> None:
    """Raises CompositionError with every member that is not ΔW alone."""
    problems = []
    for name, artifact in members.items():
        method = artifact.manifest.method
        if reason := method_of(method).why_not_summed(method):
            problems.append(f"{name}: {method.words}: {reason}")
    if problems:
        raise CompositionError(
            "only plain LoRA adapters can be summed", problems, "stack() puts such members one on top of the other."
        )


def is_finite(value: object) -> bool:
    """Whether a value is a number that can be computed with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
