"""From low-rank updates by site to a LoRA that an artifact can hold."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from adapterkit.adapted import PREFIX
from adapterkit.artifact import Artifact
from adapterkit.artifact.config import make_config
from adapterkit.artifact.lowrank import LowRank
from adapterkit.artifact.updates import filled, layers_of, linear_at, pattern_of, prefix_of
from adapterkit.backbone import Backbone, Site
from adapterkit.compose.mountable import MethodState
from adapterkit.errors import CompositionError
from adapterkit.methods.lora.choosing import plain
from adapterkit.methods.lora.moved_weight import is_transposed
from adapterkit.recipe import LoraMethod
from adapterkit.recipe.methods import MAX_RANK


def lora_of(updates: Mapping[Site, LowRank], artifact: Artifact, backbone: Backbone) -> MethodState:
    """A LoRA with exactly these updates.

    A recipe adapts every chosen site in every chosen layer, and so does an artifact. Where the updates, of which there
    is at least one, leave a site out, a rank of 1 that is zero fills it. Raises CompositionError: a rank above what an
    artifact holds. `artifact`: whose model gives the paths: that of the head.
    """
    ranks: dict[tuple[str, int], int] = {}
    for site, update in updates.items():  # one rank for all sites of one name in one layer
        ranks[site.name, site.layer] = max(update.rank, ranks.get((site.name, site.layer), 1))
    names, layers, sides = ({getattr(site, word) for site in updates} for word in ("name", "layer", "side"))
    chosen = [s for s in backbone.sites.sites if s.name in names and s.layer in layers and s.side in sides]
    whole = filled(updates, chosen, lambda site: ranks.get((site.name, site.layer), 1), backbone)
    widths = {site: update.rank for site, update in whole.items()}
    if (highest := max(widths.values())) > MAX_RANK:
        raise CompositionError(
            f"the ranks of the members add up to {highest:,}, and a LoRA has at most {MAX_RANK:,}",
            remedy='Approximate: how="svd" with a rank.',
        )
    rank, pattern = pattern_of(widths)
    method = LoraMethod(
        rank=rank,
        alpha=float(rank),
        sites=tuple(name for name in backbone.sites.names() if name in names),
        layers=layers_of(whole, backbone),
        rank_pattern=pattern,
        alpha_pattern={site: float(value) for site, value in pattern.items()},
    )
    prefix = prefix_of(artifact.config, backbone)
    state = {}
    for site, update in whole.items():
        state[f"{PREFIX}{prefix}{site.path}.lora_A.weight"] = update.a.float().contiguous()
        state[f"{PREFIX}{prefix}{site.path}.lora_B.weight"] = update.b.float().contiguous()
    return MethodState(method, _config(method, widths, prefix, artifact, backbone), state)


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
    prefix = f"{PREFIX}{prefix_of(own.config, backbone)}"
    return {name.removeprefix(prefix): tensor for name, tensor in own.state.items()}
