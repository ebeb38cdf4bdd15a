"""LoRA and IA3 of AdapterHub's as PEFT would have written them, so that one reader does for both.

Axes: R rank, I inputs, O outputs, G matrices that one linear makes (query, key, value).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adapterkit.artifact.convert.adapterhub.locations import field_problems, tensors_at
from adapterkit.artifact.convert.peft_facts import PeftFacts
from adapterkit.artifact.tensors import shortened
from adapterkit.backbone import Backbone
from adapterkit.backbone.recognise import hidden_width
from adapterkit.errors import ArtifactError
from adapterkit.methods.table import METHODS

_UNSEEN = {
    "architecture", "selfattn_lora", "intermediate_lora", "output_lora", "leave_out", "r", "alpha", "dropout",
    "attn_matrices", "composition_mode", "init_weights", "init_weights_seed", "dtype",
}  # fmt: skip
_WANTED = {
    "use_gating": (False, "a gate, which weighs the update anew for every text"),
    "use_dora": (False, "DoRA, of which AdapterHub's merged and unmerged answers differ"),
    "vera_d": (None, "VeRA, whose matrices are dense and shared by all layers"),
    "vera_b": (None, "VeRA, whose matrices are dense and shared by all layers"),
}


def read_linears(
    config: Mapping[str, Any], name: str, tensors: Mapping[str, Tensor], backbone: Backbone
) -> tuple[PeftFacts, dict[str, dict[str, Tensor]]]:
    """What PEFT's config would say, and by the path of the linear in the trunk the tensors by ending.
    `config`: AdapterHub's settings of it. `name`: the adapter's. Raises ArtifactError: something that LoRA and IA3 here
    do not have, or tensors that have no place."""
    problems = field_problems(config, _UNSEEN, _WANTED)
    rank, alpha = config.get("r", 8), config.get("alpha", 8)
    mode = config.get("composition_mode", "add")
    if type(rank) is not int or rank < 1 or type(alpha) not in (int, float) or not alpha:
        problems.append(f"r, alpha: found {rank!r:.20} and {alpha!r:.20}, expected two numbers")
    if mode not in ("add", "scale"):
        problems.append(f"composition_mode: found {mode!r:.40}, expected add or scale")
    if problems:
        raise ArtifactError("the adapter is no LoRA or IA3 of ours", shortened(problems), "Serve it with AdapterHub.")
    linears = {site.path for site in backbone.sites.sites if site.linear}
    at = tensors_at(tensors, f".loras.{name}.", linears, ("lora_A", "lora_B"))
    found, alphas = {}, {}
    for path, own in at.items():
        if mode == "scale":
            found[path] = {"ia3_l": _factors(own, float(alpha), path, config, backbone)}
            continue
        groups = len(own["lora_A"]) // rank if "lora_A" in own else 0
        found[path] = {
            "lora_A.weight": own.get("lora_A", torch.zeros(0)),
            "lora_B.weight": _block_diagonal(own.get("lora_B", torch.zeros(0)), groups, path, config, backbone),
        }
        alphas[path] = float(groups * alpha)
    method = METHODS["ia3" if mode == "scale" else "lora"]
    dropout = float(config.get("dropout", 0.0))
    return PeftFacts(method, alpha=float(alpha), alphas=alphas, dropout=dropout), found


def _block_diagonal(b: Tensor, groups: int, path: str, config: Mapping[str, Any], backbone: Backbone) -> Tensor:
    """B (O, G·R) of a linear that makes several matrices, each with an update of its own."""
    whole = hidden_width(backbone.trunk.get_submodule(path))
    if groups == 1 and len(b) == whole:
        return b
    places = _made_by(config)
    if b.dim() != 2 or groups != len(places) or len(b) * 3 != whole * groups:
        raise ArtifactError(
            "the LoRA does not fit this backbone",
            [f"{path}: B of shape {tuple(b.shape)} for {groups} matrices, expected {whole} outputs"],
        )
    size, rank = whole // 3, b.shape[1]
    filled = b.new_zeros(whole, groups * rank)
    for number, place in enumerate(places):
        filled[place * size : (place + 1) * size, number * rank : (number + 1) * rank] = b[number * size :][:size]
    return filled


def _factors(
    own: Mapping[str, Tensor], alpha: float, path: str, config: Mapping[str, Any], backbone: Backbone
) -> Tensor:
    """Factors (O, 1) on what a linear gives; ones where it makes a matrix that is not scaled."""
    found, whole = own["lora_B"].reshape(-1) * alpha, hidden_width(backbone.trunk.get_submodule(path))
    if len(found) == whole:
        return found[:, None]
    places = _made_by(config)
    size = whole // 3
    if len(found) != size * len(places):
        raise ArtifactError("the IA3 does not fit this backbone", [f"{path}: {len(found)} factors, expected {whole}"])
    filled = found.new_ones(3, size)
    filled[places] = found.reshape(len(places), size)
    return filled.reshape(-1, 1)


def _made_by(config: Mapping[str, Any]) -> list[int]:
    """Which of query, key and value (0, 1, 2) a linear that makes all three is adapted at."""
    return [number for number, letter in enumerate("qkv") if letter in config.get("attn_matrices", ["q", "v"])]
