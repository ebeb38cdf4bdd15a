"""The row of LoRA."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from adapterkit.backbone import Backbone, Site
from adapterkit.manifest import PartFacts
from adapterkit.methods.lora.choosing import choose, scaling_of
from adapterkit.methods.peft_fields import FLAG, FLAG_OR_WORD, NUMBER, RANK, SHARE, Field, by_module, one_of
from adapterkit.methods.protocol import Method, Shape
from adapterkit.recipe import LoraMethod

if TYPE_CHECKING:
    from adapterkit.methods.attachment import Attachment
    from adapterkit.methods.carrier import Carrier

A, B, MAGNITUDE = "lora_A.weight", "lora_B.weight", "lora_magnitude_vector"


class Lora(Method[LoraMethod]):
    """Low-rank updates of linears."""

    peft_type = "LORA"
    peft_import = ""
    endings = (A, B, MAGNITUDE)
    fields: ClassVar[Mapping[str, Field]] = {
        "r": RANK,
        "lora_alpha": NUMBER,
        "lora_dropout": SHARE,
        "rank_pattern": by_module(RANK, "ranks"),
        "alpha_pattern": by_module(NUMBER, "numbers"),
        "bias": one_of("none", "all", "lora_only"),
        "fan_in_fan_out": FLAG,
        "use_rslora": FLAG,
        "use_dora": FLAG,
        "init_lora_weights": FLAG_OR_WORD,
    }
    required = ("r", "lora_alpha")
    not_merged = ""
    still: ClassVar[Mapping[str, float]] = {B: 0.0}

    def attach(self, carrier: Carrier, settings: LoraMethod) -> Attachment:
        """Let PEFT attach it. See `Method.attach`."""
        from adapterkit.methods.lora.peft_layers import attach_lora

        return attach_lora(self, carrier, settings)

    def compute_fused(self, layers: Mapping[str, Any], sites: Mapping[str, Site], on: bool) -> None:
        """Put fused functions under PEFT's layers, or take them away."""
        from adapterkit.methods.fused import put_under, take_away

        take_away(layers)
        if on:
            put_under(layers, sites)

    def why_not_joined(self, settings: LoraMethod, backbone: Backbone) -> str:
        """What learns must be modules of its own that read rows alone, over weights that are the same for all."""
        if settings.dora or settings.bias != "none":
            return "LoRA with DoRA or with biases of the backbone"
        if settings.moves_weight:
            return f"initialization {settings.initialization}, which changes the backbone's weights,"
        if any(site.path in backbone.sites.positional for site in choose(backbone.sites, settings)):
            return "LoRA on what reads the positions that all rows have in common"
        return ""

    def without_weights(self, settings: LoraMethod) -> LoraMethod:
        """Initialisations that read the weights are left out."""
        return settings.model_copy(update={"initialization": "default"})

    def saved_shape(self, settings: LoraMethod, name: str, shape: Sequence[int]) -> tuple[int, ...]:
        """What starts from the weights is saved with both halves: see `moved_weight`."""
        doubled = {A: 0, B: 1}
        axis = next((axis for ending, axis in doubled.items() if name.endswith(ending)), None)
        return tuple(2 * size if settings.moves_weight and at == axis else size for at, size in enumerate(shape))

    def shapes(self, settings: LoraMethod, config: Mapping[str, Any], target: str) -> Mapping[str, Shape]:
        """A as (R, inputs), B as (outputs, R), and DoRA's magnitudes."""
        rank = config.get("rank_pattern", {}).get(target, config["r"])
        shapes: dict[str, Shape] = {A: (rank, None), B: (None, rank)}
        return {**shapes, MAGNITUDE: (None,)} if settings.dora else shapes

    def config_problems(
        self, settings: LoraMethod, config: Mapping[str, Any], parts: Sequence[PartFacts]
    ) -> Iterator[str]:
        """Ranks and alphas that are not the settings'."""
        halves = 2 if settings.moves_weight else 1
        factor = math.sqrt(halves) if settings.rslora else halves
        ranks = sorted({halves * stated for stated in (settings.rank, *settings.rank_pattern.values())})
        alphas = sorted({factor * stated for stated in (settings.alpha, *settings.alpha_pattern.values())})
        for target in config["target_modules"]:
            rank = config.get("rank_pattern", {}).get(target, config["r"])
            alpha = config.get("alpha_pattern", {}).get(target, config["lora_alpha"])
            if rank not in ranks:
                yield f"{target}: rank {rank} is none of the manifest's ({_listed(ranks)})"
            if not any(math.isclose(alpha, stated) for stated in alphas):
                yield f"{target}: alpha {alpha} is none of the manifest's ({_listed(alphas)})"

    def trains(self, settings: LoraMethod, path: str) -> bool:
        """Biases, where the settings say so."""
        return settings.bias != "none" and path.endswith(".bias")

    def why_not_summed(self, settings: LoraMethod) -> str:
        if settings.dora:
            return "its magnitudes rescale the whole weight, so its ΔW depends on what else is added"
        return "its biases are whole values and not differences" if settings.bias != "none" else ""

    def update(self, settings: LoraMethod, site: Site, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """ΔW = scaling · B · A. What starts from the weights has the scaling that it was trained with."""
        return tensors[A], scaling_of(settings, site) * tensors[B]

    def update_in_peft(
        self, config: Mapping[str, Any], target: str, tensors: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        alpha = config.get("alpha_pattern", {}).get(target, config["lora_alpha"])
        rank = len(tensors[A])
        return tensors[A], alpha / (math.sqrt(rank) if config.get("use_rslora") else rank) * tensors[B]

    def why_not_averaged(self, settings: LoraMethod) -> str:
        return "its magnitudes belong to its own directions, and not to averaged ones" if settings.dora else ""

    def build(self, settings: LoraMethod, config: Mapping[str, Any]) -> dict[str, str]:
        """How updates are scaled at every module, and which biases are whole values."""
        alphas = {
            target: config.get("alpha_pattern", {}).get(target, config["lora_alpha"])
            for target in config["target_modules"]
        }
        same = {f"method.{name}": str(getattr(settings, name)) for name in ("rslora", "dora", "bias")}
        return same | {f"{target} alpha": f"{alpha:g}" for target, alpha in alphas.items()}

    def rescales(self, settings: LoraMethod) -> str:
        return "DoRA" if settings.dora else ""


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
