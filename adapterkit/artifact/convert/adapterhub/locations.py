"""Where AdapterHub puts what it adds: its names for the places, and the paths of the trunk's modules."""

from collections.abc import Mapping

from adapterkit.backbone import Backbone, Sublayer
from adapterkit.backbone.sites import LAYER_OUTPUT, Sites

OWN_MODULES = {
    "attention": "attention_adapters",
    "cross_attention": "cross_attention_adapters",
    "feedforward": "output_adapters",
}
"""Sublayer -> the module that AdapterHub adds to a layer, where it patches the layer itself."""


def bottleneck_locations(backbone: Backbone) -> dict[str, Sublayer]:
    """Path that AdapterHub's bottlenecks have below its base model -> the sublayer after which they stand."""
    layers = layer_paths(backbone.sites)
    found = {}
    for sublayer in backbone.sites.sublayers:
        layer = layers[sublayer.side, sublayer.layer]
        found[f"{layer}.{_location(sublayer, layer)}"] = sublayer
    return found


def layer_paths(sites: Sites) -> Mapping[tuple[str, int], str]:
    """Side and number -> path of the layer in the trunk."""
    return {(site.side, site.layer): site.path for site in sites.sites if site.name == LAYER_OUTPUT}


def _location(sublayer: Sublayer, layer: str) -> str:
    path = sublayer.output.removeprefix(f"{layer}.")
    if path.startswith("layer."):  # T5 has a module for each of its sublayers
        return ".".join(path.split(".")[:2])
    if path.endswith("output.dense"):  # BERT and its like have one for what follows a linear
        return path.removesuffix(".dense")
    return OWN_MODULES[sublayer.name]


def below(name: str, paths: Mapping[str, object]) -> str | None:
    """The path that a name of AdapterHub's ends with, behind whatever its class calls the base model."""
    pieces = name.split(".")
    return next((path for n in range(len(pieces)) if (path := ".".join(pieces[n:])) in paths), None)
