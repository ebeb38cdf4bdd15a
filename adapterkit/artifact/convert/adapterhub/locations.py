"""Where AdapterHub puts what it adds, its names for the places, and which of its fields say what we have."""

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from adapterkit.artifact.tensors import shortened
from adapterkit.backbone import Backbone, Sublayer
from adapterkit.backbone.sites import LAYER_OUTPUT
from adapterkit.errors import ArtifactError

OWN_MODULES = {
    "attention": "attention_adapters",
    "cross_attention": "cross_attention_adapters",
    "feedforward": "output_adapters",
}
"""Sublayer -> the module that AdapterHub adds to a layer, where it patches the layer itself."""


def bottleneck_locations(backbone: Backbone) -> dict[str, Sublayer]:
    """Path that AdapterHub's bottlenecks have below its base model -> the sublayer after which they stand."""
    layers = {(site.side, site.layer): site.path for site in backbone.sites.sites if site.name == LAYER_OUTPUT}
    found = {}
    for sublayer in backbone.sites.sublayers:
        layer = layers[sublayer.side, sublayer.layer]
        found[f"{layer}.{_location(sublayer, layer)}"] = sublayer
    return found


def _location(sublayer: Sublayer, layer: str) -> str:
    path = sublayer.output.removeprefix(f"{layer}.")
    if path.startswith("layer."):  # T5 has a module for each of its sublayers
        return ".".join(path.split(".")[:2])
    if path.endswith("output.dense"):  # BERT and its like have one for what follows a linear
        return path.removesuffix(".dense")
    return OWN_MODULES[sublayer.name]


def tensors_at(
    tensors: Mapping[str, Tensor], mark: str, paths: Collection[str], endings: Collection[str]
) -> dict[str, dict[str, Tensor]]:
    """Path -> ending -> tensor, of tensors called path, mark and ending, behind whatever a class calls the base model.
    `paths`: of all places that there are. `endings`: of all tensors that a place may have; none for whatever it has.
    Raises ArtifactError: with every tensor that has no place, or where there is none at all."""
    found: dict[str, dict[str, Tensor]] = {}
    problems = []
    for key, tensor in tensors.items():
        place, marked, ending = key.rpartition(mark)
        pieces = place.split(".")
        path = next((path for n in range(len(pieces)) if (path := ".".join(pieces[n:])) in paths), None)
        if not marked or path is None or (endings and ending not in endings):
            problems.append(f"{key[:200]!r}: no place for it on this backbone")
        else:
            found.setdefault(path, {})[ending] = tensor
    if problems or not found:
        remedy = "" if problems else "It was saved in part: save it again."
        raise ArtifactError("its tensors are not those of its config on this backbone", shortened(problems), remedy)
    return found


def field_problems(
    config: Mapping[str, Any], unseen: Collection[str], wanted: Mapping[str, tuple[Any, str]]
) -> list[str]:
    """What a config says that adapterkit does not have. `unseen`: fields that only say how it was started, or that are
    read elsewhere. `wanted`: field -> the only value that it can have here, and what any other one asks for."""
    problems = [f"{key[:80]}: a field that is not known" for key in sorted(config.keys() - unseen - wanted.keys())]
    return problems + [
        f"{key}: found {config[key]!r:.40}: {why}, which adapterkit does not have"
        for key, (value, why) in wanted.items()
        if (config.get(key, value) or None) != (value or None)
    ]
