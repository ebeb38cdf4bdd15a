"""The row of fusion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from adapterkit.manifest import PartFacts
from adapterkit.methods.lowest_layer import lowest_layers
from adapterkit.methods.peft_fields import FLAG, RENAMES, SHARE, WIDTH, Field, one_of
from adapterkit.methods.protocol import Method, Shape
from adapterkit.recipe import FusionMethod

if TYPE_CHECKING:
    from adapterkit.methods.attachment import Attachment
    from adapterkit.methods.carrier import Carrier


class Fusion(Method[FusionMethod]):
    """Attention over what bottlenecks add. PEFT knows none, and says so instead of loading one without its parts."""

    peft_type = "ADAPTER_FUSION"
    endings = ("fusion_query.weight", "fusion_query.bias", "fusion_key.weight", "fusion_value.weight")
    fields: ClassVar[Mapping[str, Field]] = {
        "residual_modules": RENAMES,
        "norm_modules": RENAMES,
        "placement": one_of("houlsby", "pfeiffer", "parallel"),
        "query_width": WIDTH,
        "value": FLAG,
        "dropout": SHARE,
    }
    required = ("query_width", "placement")
    not_merged = "it chooses among its parts anew for every token, and a weight is the same for all"
    not_summed = "it chooses among its parts anew for every token, so it is no ΔW that could be added"
    not_averaged = "it weighs parts of its own, which other fusions do not have"

    def attach(self, carrier: Carrier, settings: FusionMethod) -> Attachment:
        """Attach it where its parts stand. See `Method.attach`."""
        from adapterkit.methods.attachment import Attachment
        from adapterkit.methods.fusion.layer import fusion_layers
        from adapterkit.methods.fusion.part import fusion_targets

        targets = carrier.reach.keep(fusion_targets(carrier.backbone.sites.sublayers, carrier.parts))
        with carrier.attaching() as before:
            layers, content = fusion_layers(carrier, targets, settings)
            before.train_only({})
        return Attachment(self, settings, layers, content, lowest_layers(targets.values()), before)

    def shapes(self, settings: FusionMethod, config: Mapping[str, Any], target: str) -> Mapping[str, Shape]:
        """Query, key, and a value matrix if there is one."""
        width = config["query_width"]
        sizes: tuple[Shape, ...] = ((width, None), (width,), (width, None), (None, None))
        return dict(zip(self.endings[: 4 if settings.value else 3], sizes, strict=False))

    def config_problems(
        self, settings: FusionMethod, config: Mapping[str, Any], parts: Sequence[PartFacts]
    ) -> Iterator[str]:
        """A placement that is not the parts', or another width than the settings say."""
        placement, width = config["placement"], config["query_width"]
        if placement not in {part.method.placement for part in parts}:
            yield f"placement: {placement} is not that of the parts"
        if settings.query_width not in (None, width):
            yield f"query_width: {width} is not the manifest's ({settings.query_width})"
