"""A bottleneck of AdapterHub's in our words: its settings, and its tensors at every sublayer.

Axes: M bottleneck width, D hidden width, N summands of a Kronecker sum, I inputs, O outputs.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adapterkit.artifact.convert.adapterhub.locations import bottleneck_locations, field_problems, tensors_at
from adapterkit.artifact.tensors import shortened
from adapterkit.artifact.updates import layers_of
from adapterkit.backbone import Backbone, Sublayer
from adapterkit.errors import ArtifactError
from adapterkit.methods.table import method_of
from adapterkit.recipe import BottleneckMethod

ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "swish": "silu",
    "silu": "silu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "leakyrelu": "leaky_relu",
    "linear": "identity",
}
"""AdapterHub's word -> ours. Where two mean the same, the first is the one to write."""

_UNSEEN = {
    "architecture", "init_weights", "init_weights_seed", "inv_adapter_reduction_factor", "stochastic_depth",
    "reduction_factor", "leave_out", "adapter_residual_before_ln", "phm_dim", "factorized_phm_W", "shared_W_phm",
    "shared_phm_rule", "factorized_phm_rule", "phm_c_init", "phm_init_range", "learn_phm", "phm_rank", "phm_bias",
    "hypercomplex_nonlinearity", "mh_adapter", "output_adapter", "cross_adapter", "original_ln_before", "is_parallel",
    "residual_before_ln", "non_linearity", "scaling", "dropout", "phm_layer",
}  # fmt: skip
"""Fields that only say how it was started, that the tensors say too, or that are looked at by themselves."""

_WANTED = {
    "ln_before": (False, "a layer norm of its own before the bottleneck"),
    "ln_after": (False, "a layer norm of its own behind the bottleneck"),
    "use_gating": (False, "a gate, which weighs the bottleneck anew for every text"),
    "inv_adapter": (None, "invertible layers behind the embeddings"),
    "original_ln_after": (True, "the model's own norm left out"),
}
"""Field -> the only value that a bottleneck here can have, and what any other one asks for."""


def read_bottleneck(
    config: Mapping[str, Any], name: str, tensors: Mapping[str, Tensor], backbone: Backbone
) -> tuple[BottleneckMethod, dict[str, dict[str, Tensor]]]:
    """Settings, and by the path of the sublayer's last module in the trunk its tensors by ending. Layers with a
    narrower bottleneck, or without one where the settings ask for one, are filled up with zeros, which add nothing.
    `config`: AdapterHub's settings of it. `name`: the adapter's. Raises ArtifactError: it is no bottleneck of ours, or
    its tensors are not those that the config describes."""
    problems, scaling = field_problems(config, _UNSEEN, _WANTED), config.get("scaling", 1.0)
    if scaling not in ("learned", "channel") and type(scaling) not in (int, float):
        problems.append(f"scaling: found {scaling!r:.40}, expected a number, learned or channel")
    placement = _placement(config, problems)
    activation = ACTIVATIONS.get(str(config.get("non_linearity")).lower(), "")
    if not activation:
        problems.append(
            f"non_linearity: found {config.get('non_linearity')!r:.40}, expected one of {', '.join(ACTIVATIONS)}"
        )
    if problems:
        raise ArtifactError(
            "the adapter is no bottleneck of ours",
            shortened(problems),
            "It can be served with AdapterHub; train it here with method.kind=bottleneck.",
        )
    common = f"shared_parameters.{name}."
    shared = {key.rpartition(common)[2]: tensor for key, tensor in tensors.items() if common in key}
    own, places = {key: t for key, t in tensors.items() if common not in key}, bottleneck_locations(backbone)
    at = tensors_at(own, f".adapters.{name}.", places, ())
    dense = {places[place]: _dense(found, shared, config, place) for place, found in at.items()}
    method = BottleneckMethod(
        placement=placement,  # type: ignore[arg-type]
        cross_attention=any(sublayer.name == "cross_attention" for sublayer in dense),
        width=max(len(found["bottleneck_down.weight"]) for found in dense.values()),
        activation=activation,  # type: ignore[arg-type]
        scale=float(scaling) if type(scaling) in (int, float) and scaling > 0 else 1.0,
        scale_learned=scaling == "learned",
        dropout=float(config.get("dropout", 0.0)),
        layers=layers_of(dense, backbone),
    )
    if type(scaling) in (int, float) and scaling <= 0:
        for found in dense.values():
            for ending in ("bottleneck_up.weight", "bottleneck_up.bias"):
                found[ending] = found[ending] * scaling
    return method, _filled(method, dense, backbone)


def _placement(config: Mapping[str, Any], problems: list[str]) -> str:
    attention, feedforward = bool(config.get("mh_adapter")), bool(config.get("output_adapter"))
    if config.get("is_parallel"):
        if attention:
            problems.append(
                "mh_adapter: a parallel bottleneck at the attention, expected one at the feed-forward alone"
            )
        return "parallel"
    if not config.get("original_ln_before"):
        return "houlsby"
    if attention or not feedforward:
        problems.append("original_ln_before: with mh_adapter, expected output_adapter alone")
    if config.get("residual_before_ln", True) is not True:
        problems.append(f"residual_before_ln: found {config['residual_before_ln']!r:.40}, expected true")
    return "pfeiffer"


def _dense(
    found: dict[str, Tensor], shared: Mapping[str, Tensor], config: Mapping[str, Any], place: str
) -> dict[str, Tensor]:
    """Down and up as plain linears."""
    compact, dense, missing = bool(config.get("phm_layer")), {}, []
    for side, name in (("down", "adapter_down.0"), ("up", "adapter_up")):
        if not compact and f"{name}.weight" not in found:
            missing.append(f"{place[:200]}: no {name}.weight")
            continue
        weight = _kronecker_sum(found, shared, name, side, place) if compact else found[f"{name}.weight"]
        bias = found.get(f"{name}.b" if compact else f"{name}.bias")
        dense[f"bottleneck_{side}.weight"] = weight
        dense[f"bottleneck_{side}.bias"] = torch.zeros(len(weight)) if bias is None else bias
    if missing:
        raise ArtifactError("the bottleneck is not whole", missing, "Save it again with AdapterHub.")
    scaling = found.get("scaling")
    if config.get("scaling") == "learned" and scaling is not None:
        dense["bottleneck_scale"] = scaling
    elif config.get("scaling") == "channel" and scaling is not None:
        dense["bottleneck_up.weight"] = dense["bottleneck_up.weight"] * scaling[:, None]
        dense["bottleneck_up.bias"] = dense["bottleneck_up.bias"] * scaling
    return dense


def _kronecker_sum(
    found: Mapping[str, Tensor], shared: Mapping[str, Tensor], name: str, side: str, place: str
) -> Tensor:
    """W (O, I) = Σ_n kron(rule_n, W_n)ᵀ, of parts that may themselves be products (Mahabadi et al. 2021, eq. 4)."""

    def product(own: str, common: str) -> Tensor:
        for tensors, start in ((found, f"{name}.{own}"), (shared, common)):
            if start in tensors:
                return tensors[start]
            if f"{start}_left" in tensors and f"{start}_right" in tensors:
                return torch.bmm(tensors[f"{start}_left"], tensors[f"{start}_right"])
        raise ArtifactError("the compacter is not whole", [f"{place[:200]}: no {name}.{own}"], "Save it again.")

    rule_N, weight_N = product("phm_rule", "phm_rule"), product("W", f"W_{side}")
    if rule_N.dim() != 3 or weight_N.dim() != 3 or len(rule_N) != len(weight_N):
        raise ArtifactError("the compacter's tensors do not fit together", [f"{place[:200]}: {name}"])
    return torch.stack([torch.kron(rule, weight) for rule, weight in zip(rule_N, weight_N, strict=True)]).sum(0).T


def _filled(
    method: BottleneckMethod, at: Mapping[Sublayer, dict[str, Tensor]], backbone: Backbone
) -> dict[str, dict[str, Tensor]]:
    """The tensors of every sublayer that the settings choose, at the same width."""
    hidden = backbone.hidden_size
    chosen = backbone.sites.select_sublayers(method.sublayers, layers=method.layers)
    strange = sorted(sublayer.output for sublayer in set(at) - set(chosen))
    if strange:
        raise ArtifactError(
            "these bottlenecks stand where the config puts none", [f"{path}: tensors" for path in strange]
        )
    sizes = method_of(method).shapes(method, {"width": method.width}, "")
    shapes = {ending: tuple(size or hidden for size in shape) for ending, shape in sizes.items()}
    filled: dict[str, dict[str, Tensor]] = {}
    for sublayer in chosen:
        filled[sublayer.output] = {}
        for ending, shape in shapes.items():
            tensor = at.get(sublayer, {}).get(ending)
            whole = torch.zeros(shape) if tensor is None else tensor.new_zeros(shape)
            if tensor is not None:
                if tensor.dim() != len(shape) or any(a > b for a, b in zip(tensor.shape, shape, strict=True)):
                    raise ArtifactError(
                        "the bottleneck does not fit this backbone",
                        [f"{sublayer.output}: {ending}: shape {tuple(tensor.shape)}, expected {shape}"],
                    )
                whole[tuple(slice(size) for size in tensor.shape)] = tensor
            filled[sublayer.output][ending] = whole
    return filled
