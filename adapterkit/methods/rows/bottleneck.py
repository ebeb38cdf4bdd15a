"""The row of the bottleneck."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from adapterkit.backbone import Backbone, Site
from adapterkit.errors import SiteError
from adapterkit.methods.lowest_layer import lowest_layers
from adapterkit.methods.peft_fields import OF_BOTTLENECK
from adapterkit.methods.protocol import Method, Shape
from adapterkit.recipe import BottleneckMethod

if TYPE_CHECKING:
    from adapterkit.methods.attachment import Attachment
    from adapterkit.methods.carrier import Carrier


class Bottleneck(Method[BottleneckMethod]):
    """Small networks after or beside sublayers."""

    peft_type = "BOTTLENECK"
    peft_import = "import adapterkit"
    endings = (
        "bottleneck_down.weight",
        "bottleneck_down.bias",
        "bottleneck_up.weight",
        "bottleneck_up.bias",
        "bottleneck_scale",
    )
    fields = OF_BOTTLENECK
    required = ("width",)
    still: ClassVar[Mapping[str, float]] = {"bottleneck_up.weight": 0.0, "bottleneck_up.bias": 0.0}
    fuses = True
    not_merged = "an activation stands between its two projections, so no weight of the backbone can hold it"
    not_summed = "its network has a bend between two linears, so it is no ΔW that could be added"
    not_averaged = ""  # networks from one start, or of one shape, are averaged as AdapterSoup does

    def attach(self, carrier: Carrier, settings: BottleneckMethod) -> Attachment:
        """Attach it by our own tuner of PEFT's. See `Method.attach`."""
        from adapterkit.methods.attachment import Attachment
        from adapterkit.methods.bottleneck.config import BottleneckConfig
        from adapterkit.methods.bottleneck.layer import BottleneckLayer

        sites = carrier.backbone.sites
        chosen = sites.select_sublayers(settings.sublayers, layers=settings.layers, top=settings.top)
        targets = carrier.reach.keep({sublayer.output: sublayer for sublayer in chosen})
        if settings.cross_attention and not any(sublayer.name == "cross_attention" for sublayer in targets.values()):
            raise SiteError(
                "there is no cross-attention in the layers that this model adapts",
                remedy="Use method.cross_attention=false, or a head that reads the decoder.",
            )
        residuals, norms = carrier.reach.read_modules(targets, settings.placement)
        config = BottleneckConfig(
            target_modules=sorted(targets),
            residual_modules=residuals,
            norm_modules=norms,
            placement=settings.placement,
            width=settings.width_for(carrier.backbone.contract.hidden_size),
            activation=settings.activation,
            scale=settings.scale,
            scale_learned=settings.scale_learned,
            dropout=settings.dropout,
        )
        with carrier.attaching() as before:
            carrier.inject(config)
            before.train_only({})
        layers = {p: module for p, module in carrier.model.named_modules() if isinstance(module, BottleneckLayer)}
        content = {**config.to_dict(), "inference_mode": True}
        return Attachment(self, settings, layers, content, lowest_layers(targets.values()), before)

    def compute_fused(self, layers: Mapping[str, Any], sites: Mapping[str, Site], on: bool) -> None:
        """The layers themselves choose where their fused function applies."""
        for layer in layers.values():
            layer.fused = on

    def why_not_joined(self, settings: BottleneckMethod, backbone: Backbone) -> str:
        """A learned scale is no module of its own."""
        return "a learned scale" if settings.scale_learned else ""

    def shapes(self, settings: BottleneckMethod, config: Mapping[str, Any], target: str) -> Mapping[str, Shape]:
        """Down and up with their biases, and a scale that is learned."""
        width = config["width"]
        sizes: tuple[Shape, ...] = ((width, None), (width,), (None, width), (None,), (1,))
        return dict(zip(self.endings[: 5 if settings.scale_learned else 4], sizes, strict=False))

    def build(self, settings: BottleneckMethod, config: Mapping[str, Any]) -> dict[str, str]:
        """What the network computes, beside its tensors."""
        names = ["placement", "cross_attention", "activation", "scale_learned"]
        same = {f"method.{name}": str(getattr(settings, name)) for name in names}
        return same if settings.scale_learned else {**same, "method.scale": f"{settings.scale:g}"}
