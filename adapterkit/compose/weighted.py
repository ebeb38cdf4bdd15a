"""`weighted`: Σ w·ΔW of LoRA adapters as one LoRA, exactly or approximated at a given rank.

Axes: I inputs, O outputs.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch

from adapterkit.artifact.lowrank import Errors, LowRank, concatenated, nearest_of_rank, truncated
from adapterkit.artifact.updates import filled, updates_of
from adapterkit.backbone import Backbone, Site
from adapterkit.compose import approximate
from adapterkit.compose.any_composition import AnyComposition, Sources, Text, weight_problems
from adapterkit.compose.members import heads_of, open_members, report_of
from adapterkit.compose.mountable import Find, Mountable
from adapterkit.compose.updates import lora_of
from adapterkit.errors import CompositionError
from adapterkit.methods.table import method_of
from adapterkit.recipe.methods import MAX_RANK

How = Literal["exact", "svd", "ties", "dare", "magnitude"]
SPARSE = ("ties", "dare", "magnitude")
"""Those that leave out entries, and so need a density."""


class Weighted(AnyComposition):
    """Σ w·ΔW of LoRA adapters as one LoRA."""

    members: Sources
    """Name in the composition → folder, hub id or mounted name; or a list of these."""
    weights: dict[Text, float]
    """Member → weight. Negative: subtract what it learned."""
    how: How = "exact"
    """exact: nothing is lost, the ranks add up. svd: the nearest update of a rank. ties, dare, magnitude: entries are
    left out first."""
    rank: int | None = None
    """Rank of an approximation. Higher: closer, larger. null: the highest of the members'."""
    density: float | None = None
    """Share of the entries that ties, dare and magnitude keep. Lower: less interference, less of each member."""
    seed: int | None = None
    """Which entries dare drops. null: 0."""

    def words(self) -> str:
        """The composition in one line: `0.7·a + 0.3·b (exact)`."""
        terms = " + ".join(f"{self.weights[name]:g}·{name}" for name in self.names)
        more = [self.how, *(f"{k} {v:g}" for k in ("rank", "density", "seed") if (v := getattr(self, k)) is not None)]
        return f"{terms} ({', '.join(more)})"

    def build(self, find: Find, backbone: Backbone) -> Mountable:
        """The LoRA, with the error of an approximation in the report. Raises CompositionError: a member that is not
        found, or that is no plain LoRA; ContractError: a member of another backbone."""
        members = open_members(dict(self.sources), find, backbone)
        methods = {name: artifact.manifest.method for name, artifact in members.items()}
        reasons = {name: method_of(method).why_not_summed(method) for name, method in methods.items()}
        if problems := [f"{name}: {methods[name].words}: {reason}" for name, reason in reasons.items() if reason]:
            remedy = "stack() puts such members one on top of the other."
            raise CompositionError("only plain LoRA adapters can be summed", problems, remedy)
        updates = {
            name: updates_of(one.manifest.method, one.config, one.state, backbone) for name, one in members.items()
        }
        weights = {name: self.weights[name] for name in members}
        active = [name for name, weight in weights.items() if weight != 0]
        sites = [site for site in backbone.sites.sites if any(site in updates[name] for name in active or members)]
        rank = self.rank or max(update.rank for found in updates.values() for update in found.values())
        merged: dict[Site, LowRank] = {}
        errors = Errors()
        for site in sites:
            terms = [(weights[name], updates[name][site]) for name in active if site in updates[name]]
            exact = concatenated(terms) if terms else filled({}, [site], lambda _: 0, backbone)[site]
            merged[site] = self._approximated(site, exact, weights, updates, rank) if active else exact
            if self.how != "exact":
                errors.add(site.path, exact, merged[site])
        own = lora_of(merged, members[self.chosen[0]], backbone)
        ranks = [max(1, update.rank) for update in merged.values()]
        report = {
            "composition": "weighted",
            **report_of(self.how, self.words(), weights, members),
            "heads": list(self.chosen),
            "rank": {"lowest": min(ranks), "highest": max(ranks)},
            "error": errors.report(),
        }
        return Mountable((own,), heads_of(self.chosen, members, self.words()), report)

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

    def problems(self) -> Iterator[tuple[str, str]]:
        """See `AnyComposition`."""
        yield from weight_problems(self.names, self.weights)
        if self.rank is not None and not 1 <= self.rank <= MAX_RANK:
            yield "rank", f"found {self.rank!r}, expected 1 to {MAX_RANK:,}"
        elif self.rank is not None and self.how == "exact":
            yield "rank", "given, and an exact sum has the sum of the ranks; leave it out"
        if self.how in SPARSE and self.density is None:
            yield "density", f"missing; {self.how} needs the share of the entries that it keeps"
        elif self.how not in SPARSE and self.density is not None:
            yield "density", f"given, and {self.how} keeps every entry; leave it out"
        elif self.density is not None and not 0 < self.density <= 1:
            yield "density", f"found {self.density!r}, expected above 0 and at most 1"
        if self.seed is not None and self.how != "dare":
            yield "seed", f"given, and {self.how} draws nothing; leave it out"
        elif self.seed is not None and self.seed < 0:
            yield "seed", f"found {self.seed!r}, expected a whole number of at least 0"
