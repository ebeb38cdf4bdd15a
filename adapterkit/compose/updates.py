"""From LoRA artifacts to low-rank updates by site, and from such updates to a LoRA that an artifact can hold.

Axes: R rank, I inputs, O outputs.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adapterkit.adapted import PREFIX
from adapterkit.artifact import Artifact
from adapterkit.artifact.config import make_config
from adapterkit.backbone import Backbone, Site
from adapterkit.backbone.recognise import hidden_width
from adapterkit.compose.lowrank import LowRank
from adapterkit.compose.mountable import MethodState
from adapterkit.errors import CompositionError
from adapterkit.methods.lora.choosing import plain
from adapterkit.methods.lora.moved_weight import is_transposed
from adapterkit.methods.table import method_of
from adapterkit.recipe import LoraMethod
from adapterkit.recipe.methods import MAX_RANK


def updates_of(own: MethodState, backbone: Backbone) -> dict[Site, LowRank]:
    """The update that a low-rank method makes at every site, with its own scaling folded in."""
    prefix = prefix_of(own, backbone)
    sites = {f"{prefix}{site.path}": site for site in backbone.sites.sites}
    method = method_of(own.method)
    found = {}
    for target in own.config["target_modules"]:
        start = f"{PREFIX}{target}."
        tensors = {
            ending: own.state[f"{start}{ending}"].cpu().double()
            for ending in method.endings
            if f"{start}{ending}" in own.state
        }
        found[sites[target]] = LowRank(*method.update(own.method, sites[target], tensors))
    return {site: found[site] for site in backbone.sites.sites if site in found}


def prefix_of(own: MethodState, backbone: Backbone) -> str:
    """What stands before the trunk's own path in the paths of an adapter's model: "bert.", "model.", or nothing.
    Raises CompositionError: the paths are none of this backbone's."""
    known = {site.path for site in backbone.sites.sites} | {sublayer.output for sublayer in backbone.sites.sublayers}
    targets = list(own.config["target_modules"])
    for target in targets:
        pieces = target.split(".")
        for start in range(len(pieces)):
            if ".".join(pieces[start:]) in known:
                return "".join(f"{piece}." for piece in pieces[:start])
    raise CompositionError(
        "these modules are not in this backbone", [f"{target}: not a site" for target in targets[:4]]
    )


def lora_of(updates: Mapping[Site, LowRank], artifact: Artifact, backbone: Backbone) -> MethodState:
    """A LoRA with exactly these updates.

    A recipe adapts every chosen site in every chosen layer, and so does an artifact. Where the updates, of which there
    is at least one, leave a site out, a rank of 1 that is zero fills it. Raises CompositionError: a rank above what an
    artifact holds. `artifact`: whose model gives the paths: that of the head.
    """
    filled = _filled(updates, backbone)
    ranks = {site: update.rank for site, update in filled.items()}
    highest = max(ranks.values())
    if highest > MAX_RANK:
        raise CompositionError(
            f"the ranks of the members add up to {highest:,}, and a LoRA has at most {MAX_RANK:,}",
            remedy='Approximate: how="svd" with a rank.',
        )
    rank, pattern = _pattern(ranks)
    names = {site.name for site in filled}
    layers = sorted({site.layer for site in filled})
    method = LoraMethod(
        rank=rank,
        alpha=float(rank),
        sites=tuple(name for name in backbone.sites.names() if name in names),
        layers=None if len(layers) == max(backbone.sites.layer_count.values()) else tuple(layers),
        rank_pattern=pattern,
        alpha_pattern={site: float(value) for site, value in pattern.items()},
    )
    prefix = prefix_of(MethodState(artifact.manifest.method, artifact.config, artifact.state), backbone)
    state = {}
    for site, update in filled.items():
        state[f"{PREFIX}{prefix}{site.path}.lora_A.weight"] = update.a.float().contiguous()
        state[f"{PREFIX}{prefix}{site.path}.lora_B.weight"] = update.b.float().contiguous()
    return MethodState(method, _config(method, ranks, prefix, artifact, backbone), state)


def _filled(updates: Mapping[Site, LowRank], backbone: Backbone) -> dict[Site, LowRank]:
    """One rank for all sites of one name in one layer, and an update at every site, in the trunk's order."""
    ranks: dict[tuple[str, int], int] = {}
    for site, update in updates.items():
        ranks[site.name, site.layer] = max(update.rank, ranks.get((site.name, site.layer), 1))
    names, layers = {site.name for site in updates}, {site.layer for site in updates}
    sides = {site.side for site in updates}
    filled = {}
    for site in backbone.sites.sites:
        if site.name in names and site.layer in layers and site.side in sides:
            update = updates[site] if site in updates else _nothing(linear_at(backbone, site))
            filled[site] = update.widened(ranks.get((site.name, site.layer), 1))
    return filled


def linear_at(backbone: Backbone, site: Site) -> Any:
    """The linear at a site, without what a training in progress may have put around it."""
    linear: Any = backbone.trunk.get_submodule(site.path)
    return getattr(linear, "base_layer", linear)


def _nothing(linear: Any) -> LowRank:
    """An update of rank 0 for a linear."""
    inputs = int(linear.nx if is_transposed(linear) else linear.in_features)
    return LowRank(torch.zeros(0, inputs).double(), torch.zeros(hidden_width(linear), 0).double())


def _pattern(ranks: Mapping[Site, int]) -> tuple[int, dict[str, int]]:
    """The commonest rank, and those of the others by "site@layer", or by site where all its layers agree."""
    common = Counter(ranks.values()).most_common(1)[0][0]
    by_name: dict[str, set[int]] = {}
    for site, rank in ranks.items():
        by_name.setdefault(site.name, set()).add(rank)
    pattern = {}
    for site, rank in ranks.items():
        if rank != common:
            alone = len(by_name[site.name]) == 1
            pattern[site.name if alone else f"{site.name}@{site.layer}"] = rank
    return common, dict(sorted(pattern.items()))


def _config(
    method: LoraMethod, ranks: Mapping[Site, int], prefix: str, artifact: Artifact, backbone: Backbone
) -> dict[str, Any]:
    """PEFT's config of a LoRA whose scaling is 1 everywhere."""
    others = {f"{prefix}{site.path}": rank for site, rank in ranks.items() if rank != method.rank}
    manifest = artifact.manifest
    content = {
        "peft_version": artifact.config.get("peft_version"),
        "r": method.rank,
        "lora_alpha": plain(method.alpha),
        "lora_dropout": 0.0,
        "target_modules": sorted(f"{prefix}{site.path}" for site in ranks),
        "rank_pattern": dict(sorted(others.items())),
        "alpha_pattern": dict(sorted(others.items())),
        "bias": "none",
        "fan_in_fan_out": all(is_transposed(linear_at(backbone, site)) for site in ranks),
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
    }
    return make_config(manifest.kind, method, content, backbone.name, backbone.revision, own_head=manifest.head.is_own)


def on_trunk(own: MethodState, backbone: Backbone) -> dict[str, Tensor]:
    """The tensors of a method by path in the trunk, whatever model they are named in."""
    prefix = f"{PREFIX}{prefix_of(own, backbone)}"
    return {name.removeprefix(prefix): tensor for name, tensor in own.state.items()}
