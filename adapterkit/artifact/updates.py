"""What a low-rank method does at every site of a backbone, whatever model its modules are named in.

Axes: R rank, I inputs, O outputs.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from adapterkit.adapted import PREFIX
from adapterkit.artifact.config import targets_of
from adapterkit.artifact.lowrank import LowRank
from adapterkit.backbone import Backbone, Site, Sublayer
from adapterkit.backbone.recognise import hidden_width
from adapterkit.errors import ArtifactError
from adapterkit.methods.table import method_of
from adapterkit.recipe import MethodSettings

N = TypeVar("N", int, float)


def prefix_of(config: Mapping[str, Any], backbone: Backbone) -> str:
    """What stands before the trunk's own paths in those of an adapter's model: "bert.", "model.", or nothing.
    `config`: PEFT's. Raises ArtifactError: the paths are none of this backbone's."""
    known = {site.path for site in backbone.sites.sites} | {sublayer.output for sublayer in backbone.sites.sublayers}
    targets = sorted(targets_of(config))
    for target in targets:
        pieces = target.split(".")
        for start in range(len(pieces)):
            if ".".join(pieces[start:]) in known:
                return "".join(f"{piece}." for piece in pieces[:start])
    problems = [f"{target}: not a site" for target in targets[:4]]
    raise ArtifactError("these modules are not in this backbone", problems)


def updates_of(
    settings: MethodSettings, config: Mapping[str, Any], state: Mapping[str, Tensor], backbone: Backbone
) -> dict[Site, LowRank]:
    """The update that a low-rank method makes at every site, with its own scaling folded in, in the trunk's order.
    `config`: PEFT's. `state`: its tensors by their names in an artifact."""
    method, prefix, targets, found = method_of(settings), prefix_of(config, backbone), targets_of(config), {}
    for site in backbone.sites.sites:
        if f"{prefix}{site.path}" in targets:
            start = f"{PREFIX}{prefix}{site.path}."
            tensors = {e: state[start + e].cpu().double() for e in method.endings if start + e in state}
            found[site] = LowRank(*method.update(settings, site, tensors))
    return found


def filled(
    updates: Mapping[Site, LowRank], sites: Iterable[Site], rank_at: Callable[[Site], int], backbone: Backbone
) -> dict[Site, LowRank]:
    """An update at every one of these sites, at the rank that is wanted there; of zeros where there is none."""
    found = {}
    for site in sites:
        if (update := updates.get(site)) is None:
            outputs = hidden_width(linear_at(backbone, site))
            inputs = linear_at(backbone, site).weight.numel() // outputs
            update = LowRank(torch.zeros(0, inputs).double(), torch.zeros(outputs, 0).double())
        found[site] = update.widened(rank_at(site))
    return found


def linear_at(backbone: Backbone, site: Site) -> Any:
    """The linear at a site, without what a training in progress may have put around it."""
    linear: Any = backbone.trunk.get_submodule(site.path)
    return getattr(linear, "base_layer", linear)


def pattern_of(values: Mapping[Site, N]) -> tuple[N, dict[str, N]]:
    """The commonest value, and those of the others by "site@layer", or by site where all its layers agree."""
    common = Counter(values.values()).most_common(1)[0][0]
    by_name: dict[str, set[N]] = {}
    for site, value in values.items():
        by_name.setdefault(site.name, set()).add(value)
    pattern = {
        site.name if len(by_name[site.name]) == 1 else f"{site.name}@{site.layer}": value
        for site, value in values.items()
        if value != common
    }
    return common, dict(sorted(pattern.items()))


def layers_of(places: Iterable[Site | Sublayer], backbone: Backbone) -> tuple[int, ...] | None:
    """The numbers of the layers that these stand in; None where they are all."""
    numbers = tuple(sorted({place.layer for place in places}))
    return None if len(numbers) == max(backbone.sites.layer_count.values()) else numbers
