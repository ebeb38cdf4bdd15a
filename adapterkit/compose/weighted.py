"""`weighted`: Σ w·ΔW of LoRA adapters as one LoRA, exactly or approximated at a given rank.

Axes: I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from adapterkit.artifact import Artifact
from adapterkit.artifact.lowrank import Errors, LowRank, concatenated, is_number, nearest_of_rank, truncated
from adapterkit.artifact.updates import updates_of
from adapterkit.backbone import Backbone, Site
from adapterkit.compose import approximate
from adapterkit.compose.members import head_problems, heads_of, open_members, report_of, weight_problems
from adapterkit.compose.mountable import Find, Mountable
from adapterkit.compose.updates import lora_of
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
        members = open_members(dict(self.members), find, backbone)
        _check_additive(members)
        updates = {
            name: updates_of(one.manifest.method, one.config, one.state, backbone) for name, one in members.items()
        }
        weights = dict(zip(members, self.weights, strict=True))
        active = [name for name, weight in weights.items() if weight != 0]
        sites = [site for site in backbone.sites.sites if any(site in updates[name] for name in active or members)]
        rank = self.rank or max(update.rank for found in updates.values() for update in found.values())
        merged: dict[Site, LowRank] = {}
        errors = Errors()
        for site in sites:
            exact = _exact([(weights[name], updates[name].get(site)) for name in members])
            merged[site] = self._approximated(site, exact, weights, updates, rank) if active else exact
            if self.how != "exact":
                errors.add(site.path, exact, merged[site])
        own = lora_of(merged, members[self.heads[0]], backbone)
        ranks = [max(1, update.rank) for update in merged.values()]
        report = {
            "composition": "weighted",
            **report_of(self.how, self.words(), self.weights, members),
            "heads": list(self.heads),
            "rank": {"lowest": min(ranks), "highest": max(ranks)},
            "error": errors.report(),
        }
        return Mountable((own,), heads_of(self.heads, members, self.words()), report)

    def _approximated(
        self, site: Site, exact: LowRank, weights: Mapping[str, float], updates: Mapping[str, Any], rank: int
    ) -> LowRank:
        if self.how == "exact":
            return exact
        if self.how == "svd":
            return truncated(exact, rank)
        density = self.density or 1.0
        used = {name: weight for name, weight in weights.items() if weight != 0}
        deltas = [
            updates[name][site].matrix() if site in updates[name] else torch.zeros(exact.shape).double()
            for name in used
        ]
        if self.how == "dare":
            seeds = [approximate.mask_seed(self.seed or 0, name, site.path) for name in used]
            return nearest_of_rank(approximate.dare(deltas, [*used.values()], density, seeds), rank)
        thin = approximate.ties if self.how == "ties" else approximate.magnitude
        return nearest_of_rank(thin(deltas, [*used.values()], density), rank)

    def _problems(self) -> list[str]:
        names = [name for name, _ in self.members]
        problems = weight_problems(names, self.weights) + head_problems(self.heads, names)
        if self.how not in HOWS:
            hint = did_you_mean(str(self.how), HOWS)
            return [*problems, f"how: found {self.how!r}, expected {', '.join(HOWS)}{hint}"]
        if self.rank is not None and (type(self.rank) is not int or not 1 <= self.rank <= MAX_RANK):
            problems.append(f"rank: found {self.rank!r}, expected 1 to {MAX_RANK:,}")
        elif self.rank is not None and self.how == "exact":
            problems.append("rank: given, and an exact sum has the sum of the ranks; leave it out")
        if self.how in SPARSE and self.density is None:
            problems.append(f"density: missing; {self.how} needs the share of the entries that it keeps")
        elif self.how not in SPARSE and self.density is not None:
            problems.append(f"density: given, and {self.how} keeps every entry; leave it out")
        elif self.density is not None and not (is_number(self.density) and 0 < self.density <= 1):
            problems.append(f"density: found {self.density!r}, expected above 0 and at most 1")
        if self.seed is not None and self.how != "dare":
            problems.append(f"seed: given, and {self.how} draws nothing; leave it out")
        elif self.seed is not None and (type(self.seed) is not int or self.seed < 0):
            problems.append(f"seed: found {self.seed!r}, expected a whole number of at least 0")
        return problems


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
