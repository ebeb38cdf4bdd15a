"""An adapter of ours in AdapterHub's words: settings of its method and its head, and tensors by AdapterHub's names."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from adapterkit.adapted import PREFIX
from adapterkit.artifact.config import targets_of
from adapterkit.artifact.convert.adapterhub.bottleneck import ACTIVATIONS
from adapterkit.artifact.convert.adapterhub.locations import bottleneck_locations
from adapterkit.artifact.convert.answering import temper
from adapterkit.artifact.convert.flat import why_not_flat
from adapterkit.artifact.parts import as_part
from adapterkit.artifact.reading import Artifact
from adapterkit.artifact.updates import filled, linear_at, prefix_of, updates_of
from adapterkit.backbone import Backbone, Site
from adapterkit.backbone.recognise import hidden_width
from adapterkit.methods.table import method_of
from adapterkit.recipe.kinds import FACTS

LETTERS = {"attention.query": "q", "attention.key": "k", "attention.value": "v"}
PLACES = {"feedforward.input": "intermediate_lora", "feedforward.output": "output_lora"}

_TWO_LAYERS = {"roberta", "xlm-roberta", "bart", "t5"}
"""Families whose class for texts has a tanh between two linears, over the token that AdapterHub reads too."""

Written = tuple[Mapping[str, Any], dict[str, Tensor]]


def write_method(artifact: Artifact, backbone: Backbone, name: str, problems: list[str]) -> Written:
    """AdapterHub's settings, and its tensors. `artifact`: a bottleneck, LoRA or IA3. `name`: what AdapterHub shall call
    it. `problems`: reasons why it cannot be said there, which are added to."""
    write = _WRITERS.get(method_of(artifact.manifest.method).peft_type, _lora)
    return write(artifact, backbone, name, problems)


def write_fusion(artifact: Artifact, backbone: Backbone, parts: list[str], problems: list[str]) -> Written:
    """The fusion's own part, under the names that its parts have."""
    placement = {part.method.placement for part in artifact.manifest.parts}
    if placement == {"parallel"}:
        problems.append("fusion of parallel bottlenecks: AdapterHub adds the residual twice there")
    if strange := [part for part in parts if not part.replace("_", "").replace("-", "").isalnum()]:
        problems.append(f"parts: AdapterHub takes letters, digits, - and _ in a name, and not {', '.join(strange)}")
    width, prefix = backbone.hidden_size, prefix_of(artifact.config, backbone)
    tensors: dict[str, Tensor] = {}
    value = False
    for place, sublayer in bottleneck_locations(backbone).items():
        start = f"{PREFIX}{prefix}{sublayer.output}."
        own = {key[len(start) :]: t.float() for key, t in artifact.state.items() if key.startswith(start)}
        if not own:
            continue
        start = f"{backbone.trunk.base_model_prefix}.{place}.adapter_fusion_layer.{','.join(parts)}."
        for theirs, ours in (("query.weight", "fusion_query.weight"), ("key.weight", "fusion_key.weight")):
            tensors[start + theirs] = torch.zeros(width, width)
            tensors[start + theirs][: len(own[ours])] = own[ours]
        tensors[f"{start}query.bias"] = torch.zeros(width)
        tensors[f"{start}query.bias"][: len(own["fusion_query.bias"])] = own["fusion_query.bias"]
        tensors[f"{start}key.bias"] = torch.zeros(width)
        if value := "fusion_value.weight" in own:
            tensors[f"{start}value.weight"] = own["fusion_value.weight"] + torch.eye(width)
    config = {
        "key": True, "query": True, "value": value, "query_before_ln": False, "regularization": value,
        "residual_before": False, "temperature": False, "value_before_softmax": True, "value_initialized": value,
        "dropout_prob": None,
    }  # fmt: skip
    return config, tensors


def write_head(artifact: Artifact, backbone: Backbone, name: str, problems: list[str]) -> Written | None:
    """AdapterHub's settings of the head and its tensors; None for a language model, which uses the checkpoint's.
    `name`: what AdapterHub shall call it. `problems`: reasons why AdapterHub has no such head, which are added to."""
    task, settings = artifact.task, artifact.manifest.head
    kind, family = task.kind, str(backbone.config.model_type)
    if FACTS[kind].borrows_head:
        return None
    heads = [PREFIX + path for path in artifact.manifest.head_tensors]
    state = {path: artifact.state[path].float().clone() for path in heads}
    temper(state, heads, task)
    paths = list(dict.fromkeys(path.rpartition(".")[0] for path in heads))
    paths.sort(key=lambda path: path.rsplit(".", 1)[1] in ("classifier", "out_proj", "score", "qa_outputs"))
    pooling = "last" if backbone.is_decoder else "first"
    head_type = FACTS[kind].adapterhub[0]
    if head_type == "multiple_choice":
        problems.append(f"kind {kind}: AdapterHub's head has a fixed number of choices")
    if settings.is_own and any(".pooling." in path for path in heads):
        problems.append(f"head {settings.kind}: AdapterHub's has no pooling that is trained")
    elif settings.is_own and FACTS[kind].pooled and settings.pooling != pooling:
        problems.append(f"pooling {settings.pooling}: AdapterHub reads the {pooling} token of {family}")
    elif settings.normalize:
        problems.append("head.normalize: AdapterHub's head reads its vector as long as it is")
    elif settings.is_own and backbone.is_encoder_decoder:
        problems.append(f"head {settings.kind}: it reads the encoder, and AdapterHub the decoder")
    elif settings.hidden not in (None, backbone.hidden_size):
        problems.append(f"head width {settings.hidden}: AdapterHub's is the model's, {backbone.hidden_size}")
    elif any("pooler" in path for path in heads):
        problems.append("head: its pooler was trained with it, and AdapterHub keeps the checkpoint's")
    activation = "relu" if family == "distilbert" and len(paths) == 2 and not settings.is_own else "tanh"
    config: dict[str, Any] = {
        "head_type": head_type,
        "num_labels": task.classes,
        "layers": len(paths),
        "activation_function": activation,
        "label2id": {label: number for number, label in enumerate(task.labels)} or None,
        "dropout_prob": None,
    }
    if task.problem:
        if task.problem == "multi-label":
            config["head_type"] = "multilabel_classification"
        plain = settings.is_own or family in ("distilbert", "gpt2") or family in _TWO_LAYERS
        config |= {"use_pooler": not plain, "bias": f"{paths[-1]}.bias" in state}
    numbers = (1, 4)[: len(paths)]
    tensors = {
        f"heads.{name}.{number}.{ending}": state[f"{path}.{ending}"]
        for number, path in zip(numbers, paths, strict=False)
        for ending in ("weight", "bias")
        if f"{path}.{ending}" in state
    }
    return config, tensors


def _bottleneck(artifact: Artifact, backbone: Backbone, name: str, problems: list[str]) -> Written:
    settings: Any = artifact.manifest.method
    part = as_part(name, artifact.folder, artifact.manifest, artifact.config, artifact.state, backbone)
    width, hidden = settings.width_for(backbone.hidden_size), backbone.hidden_size
    factor = hidden / width
    config = {
        "mh_adapter": settings.placement == "houlsby",
        "output_adapter": True,
        "cross_adapter": settings.cross_attention,
        "reduction_factor": factor if int(hidden // factor) == width else hidden / (width + 0.5),
        "non_linearity": next(theirs for theirs, ours in ACTIVATIONS.items() if ours == settings.activation),
        "original_ln_before": settings.placement == "pfeiffer",
        "is_parallel": settings.placement == "parallel",
        "scaling": "learned" if settings.scale_learned else float(settings.scale),
        "dropout": settings.dropout,
        "leave_out": _leave_out(backbone, part.tensors),
    }
    renamed = {"down": "adapter_down.0", "up": "adapter_up"}
    tensors = {}
    for place, sublayer in bottleneck_locations(backbone).items():
        start = f"{backbone.trunk.base_model_prefix}.{place}.adapters.{name}."
        for ending, tensor in part.tensors.get(sublayer.output, {}).items():
            side, _, kind = ending.removeprefix("bottleneck_").partition(".")
            tensors[start + (f"{renamed[side]}.{kind}" if kind else "scaling")] = tensor.float()
    return config, tensors


def _lora(artifact: Artifact, backbone: Backbone, name: str, problems: list[str]) -> Written:
    if reasons := list(why_not_flat(artifact)):
        problems += reasons
        return {}, {}
    updates = updates_of(artifact.manifest.method, artifact.config, artifact.state, backbone)
    rank = max(update.rank for update in updates.values())
    config, sites = _linears(updates, backbone, problems)
    tensors = {}
    for site, update in filled(updates, sites, lambda _: rank, backbone).items():
        start = f"{backbone.trunk.base_model_prefix}.{site.path}.loras.{name}."
        # Three matrices out of one linear: each reads the same A, and B has their outputs below each other already.
        tensors[f"{start}lora_A"] = update.a.float().repeat(3 if site.name.endswith(".qkv") else 1, 1)
        tensors[f"{start}lora_B"] = update.b.float()
    return {**config, "r": rank, "alpha": rank, "composition_mode": "add", "init_weights": "lora"}, tensors


def _ia3(artifact: Artifact, backbone: Backbone, name: str, problems: list[str]) -> Written:
    scaled, prefix = set(artifact.config["feedforward_modules"]), prefix_of(artifact.config, backbone)
    factors = {
        site: artifact.state[f"{PREFIX}{prefix}{site.path}.ia3_l"].float()
        for site in backbone.sites.sites
        if prefix + site.path in targets_of(artifact.config)
    }
    if inputs := sorted({site.name for site in factors if prefix + site.path in scaled}):
        problems.append(f"IA3 on what {', '.join(inputs)} reads: AdapterHub scales what a linear gives: inputs: []")
    config, sites = _linears(factors, backbone, problems)
    tensors = {}
    for site in sites:
        ones = torch.ones(hidden_width(linear_at(backbone, site)), 1)
        start = f"{backbone.trunk.base_model_prefix}.{site.path}.loras.{name}."
        tensors[f"{start}lora_B"] = factors.get(site, ones)
    return {**config, "r": 1, "alpha": 1, "composition_mode": "scale", "init_weights": "ia3"}, tensors


def _linears(adapted: Iterable[Site], backbone: Backbone, problems: list[str]) -> tuple[dict[str, Any], list[Site]]:
    """Where AdapterHub adapts if told to adapt these: the same matrices of every attention, in the same layers."""
    adapted = list(adapted)
    names = {site.name.replace("cross_attention.", "attention.") for site in adapted}
    joined = "attention.qkv" in names
    if strange := sorted(names - LETTERS.keys() - PLACES.keys() - {"attention.qkv"}):
        problems.append(f"sites {', '.join(strange)}: AdapterHub adapts {', '.join([*LETTERS, *PLACES])}")
    letters = ["q", "k", "v"] if joined else [letter for site, letter in LETTERS.items() if site in names]
    layers = {(site.side, site.layer) for site in adapted}
    sites = [
        site
        for site in backbone.sites.sites
        if (site.side, site.layer) in layers and site.name.replace("cross_attention.", "attention.") in names
    ]
    config = {
        "architecture": "lora",
        "selfattn_lora": bool(letters),
        "attn_matrices": letters,
        **{field: site in names for site, field in PLACES.items()},
        "leave_out": _leave_out(backbone, [site.path for site in adapted]),
        "dropout": 0.0,
    }
    return config, sites


def _leave_out(backbone: Backbone, paths: Iterable[str]) -> list[int]:
    """Layers without any of these modules, as AdapterHub counts: a decoder's go on behind the encoder's."""
    paths = list(paths)
    layers = [site.path for site in backbone.sites.sites if site.name == "layer.output"]
    return [n for n, layer in enumerate(layers) if not any(path.startswith(f"{layer}.") for path in paths)]


_WRITERS = {"BOTTLENECK": _bottleneck, "IA3": _ia3}
"""PEFT's type of a method -> what writes it; any other must be a sum of low-rank updates."""
