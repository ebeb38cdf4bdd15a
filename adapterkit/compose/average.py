"""`average`: the mean of the parameters of adapters that are built alike.

Axes: R rank, I inputs, O outputs.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from adapterkit.adapted import PREFIX
from adapterkit.artifact import Artifact
from adapterkit.artifact.lowrank import Errors, concatenated
from adapterkit.artifact.tensors import shortened
from adapterkit.artifact.updates import prefix_of, updates_of
from adapterkit.backbone import Backbone
from adapterkit.compose.any_composition import AnyComposition, Sources, Text, weight_problems
from adapterkit.compose.approximate import sum_of
from adapterkit.compose.members import heads_of, method_state, open_members, report_of
from adapterkit.compose.mountable import Find, MethodState, Mountable
from adapterkit.compose.updates import on_trunk
from adapterkit.errors import CompositionError
from adapterkit.methods.table import method_of

FARTHEST = 0.5
"""The largest relative error between the ΔW of averaged factors and the average of the ΔW.

LoRAs from N unrelated starts have √((N-1)/N): 0.71 for two of them, because the mixed products b₁a₂ mean nothing and
are as large as what is wanted. LoRAs from one start stay far below.
"""


class Average(AnyComposition):
    """The mean of the parameters of adapters that are built alike."""

    members: Sources
    """Name in the composition → folder, hub id or mounted name; or a list of these."""
    weights: dict[Text, float] | None = None
    """Member → weight, of which the share counts. null: all alike."""

    @property
    def shares(self) -> dict[str, float]:
        """Member -> its share of the weights, as a part of 1."""
        weights = self.weights or dict.fromkeys(self.names, 1.0)
        return {name: weights[name] / math.fsum(weights.values()) for name in self.names}

    def words(self) -> str:
        """The composition in one line: `average of 0.5·a, 0.5·b`."""
        return f"average of {', '.join(f'{share:g}·{name}' for name, share in self.shares.items())}"

    def build(self, find: Find, backbone: Backbone) -> Mountable:
        """The averaged method.
        Raises CompositionError: a member that is not found, members that are not built alike, or LoRAs whose averaged
        factors would be far from the average of what they do; ContractError: a member of another backbone."""
        members = open_members(dict(self.sources), find, backbone)
        _check_alike(members, backbone)
        methods = {name: method_state(artifact) for name, artifact in members.items()}
        shares = self.shares
        tensors = {name: on_trunk(own, backbone) for name, own in methods.items()}
        first = methods[self.chosen[0]]
        prefix = f"{PREFIX}{prefix_of(first.config, backbone)}"
        state = {}
        for path in tensors[self.chosen[0]]:
            values = [own[path].cpu().double() for own in tensors.values()]
            state[f"{prefix}{path}"] = sum_of(values, [*shares.values()]).float()
        own = MethodState(first.method, first.config, state)
        report: dict[str, Any] = {
            "composition": "average",
            **report_of("average", self.words(), shares, members),
            "heads": list(self.chosen),
        }
        if method_of(own.method).low_rank:
            report["error"] = _check_near(methods, own, shares, backbone)
        return Mountable((own,), heads_of(self.chosen, members, self.words()), report)

    def problems(self) -> Iterator[tuple[str, str]]:
        """See `AnyComposition`."""
        if self.weights is None:
            return
        yield from weight_problems(self.names, self.weights)
        for name, weight in self.weights.items():
            if weight < 0:
                yield f"weights.{name}", f"found {weight:g}, expected a finite number of at least 0"
        if self.weights and not any(self.weights.values()):
            yield "weights", "all are 0, so nothing would be averaged"


def _check_alike(members: Mapping[str, Artifact], backbone: Backbone) -> None:
    """Raises CompositionError with every difference between the first member and the others, naming both sides."""
    (first, reference), *others = members.items()
    settings = reference.manifest.method
    reason = method_of(settings).why_not_averaged(settings)
    problems = [f"{first}: {settings.words}: {reason}"] if reason else []
    expected = _build_of(reference, backbone)
    for name, artifact in others:
        other = artifact.manifest.method
        if type(other) is not type(settings):
            problems.append(f"{name}: {other.words}, {first}: {settings.words}")
            continue
        found = _build_of(artifact, backbone)
        problems += [
            f"{field}: {name} has {found.get(field, 'nothing')}, {first} has {expected.get(field, 'nothing')}"
            for field in sorted(
                found.keys() | expected.keys(), key=lambda field: (not field.startswith("method."), field)
            )
            if found.get(field) != expected.get(field)
        ]
    if problems:
        raise CompositionError(
            "only adapters that are built alike can be averaged",
            shortened(problems),
            "weighted() sums LoRA adapters of any shape; stack() puts any members one on top of the other.",
        )


def _build_of(artifact: Artifact, backbone: Backbone) -> dict[str, str]:
    """How a member is built: settings that change what its tensors do, shapes, and the scaling at every site."""
    own, settings = method_state(artifact), artifact.manifest.method
    if not settings.attaches:
        return {}
    prefix = prefix_of(own.config, backbone)
    stated = method_of(settings).build(settings, artifact.config)
    build = {place.removeprefix(prefix): value for place, value in stated.items()}
    return build | {path: f"shape {tuple(tensor.shape)}" for path, tensor in on_trunk(own, backbone).items()}


def _check_near(
    methods: Mapping[str, MethodState], averaged: MethodState, shares: Mapping[str, float], backbone: Backbone
) -> dict[str, Any]:
    """How far averaged factors are from the average of the updates.
    Raises CompositionError: so far that the members do not come from one start."""
    members = {name: updates_of(own.method, own.config, own.state, backbone) for name, own in methods.items()}
    errors = Errors()
    for site, found in updates_of(averaged.method, averaged.config, averaged.state, backbone).items():
        errors.add(site.path, concatenated([(shares[name], members[name][site]) for name in members]), found)
    told = errors.report()
    if (overall := told["overall"]) > FARTHEST:
        raise CompositionError(
            "the mean of these LoRAs' factors is not the mean of what they do",
            [f"relative error of ΔW: {overall:.2f}, expected at most {FARTHEST}: they come from different starts"],
            'Sum them instead: weighted({…}), exact, or how="svd" with a rank.',
        )
    return told
