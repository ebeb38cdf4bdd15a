"""AdapterFusion of AdapterHub's in our words.

A token's scores are (W_Q z + b_Q)·(W_K f_n + b_K); b_K moves all of them alike, which the softmax ignores, so there is
none here. AdapterHub's value matrix is I + W_Δ of ours.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapterkit.artifact.convert.adapterhub.folder import SETUP, Saved
from adapterkit.artifact.convert.adapterhub.locations import bottleneck_locations, field_problems, tensors_at
from adapterkit.backbone import Backbone
from adapterkit.errors import ArtifactError
from adapterkit.manifest import CONFIG, MAX_BYTES, parse_object, read_file
from adapterkit.recipe import FusionMethod

_WANTED: Mapping[str, tuple[Any, str]] = {
    "key": (True, "scores without keys"),
    "query": (True, "scores without queries"),
    "query_before_ln": (False, "a query that is read before the norm"),
    "residual_before": (False, "the residual within the values"),
    "temperature": (False, "a temperature, which falls with every forward"),
}

_RENAMED = {
    "query.weight": "fusion_query.weight",
    "query.bias": "fusion_query.bias",
    "key.weight": "fusion_key.weight",
    "value.weight": "fusion_value.weight",
}


def read_setup(src: Path) -> tuple[list[str], Path, Path]:
    """Names of the fused adapters, the fusion's folder, and the folder of its head.
    Raises ArtifactError: the setup is no Fuse of single adapters."""
    config = parse_object(read_file((src / SETUP).resolve(), MAX_BYTES[CONFIG]), SETUP)
    setup, head = config.get("adapter_setup"), config.get("head_setup")
    fused = setup.get("children") if isinstance(setup, dict) and setup.get("type") == "Fuse" else None
    names = [_single(child) for child in fused] if isinstance(fused, list) else None
    plain = isinstance(names, list) and len(names) > 1 and all(_is_plain(name) for name in names)
    if not plain or not (head is None or head is True or _is_plain(head)):
        raise ArtifactError(
            "its setup is no fusion of single adapters",
            [f"{SETUP}: adapter_setup {setup!r:.120}, head_setup {head!r:.40}"],
            "Save a Fuse of adapters, with one head; import other compositions adapter by adapter, and see "
            "docs/concepts/composition.md.",
        )
    return list(names or ()), src / ",".join(names or ()), src / head if isinstance(head, str) else src


def fusion_settings(saved: Saved, parts: Sequence[str], backbone: Backbone) -> FusionMethod:
    """The settings of a fusion. Raises ArtifactError where it is computed otherwise than ours."""
    config: Mapping[str, Any] = saved.config.get("config") or {}
    problems = field_problems(config, config.keys() - _WANTED.keys(), _WANTED)
    if problems:
        raise ArtifactError("the fusion is none of ours", problems, "Serve it with AdapterHub.")
    width = backbone.hidden_size
    return FusionMethod(parts=tuple(parts), query_width=width, value=bool(config.get("value")))


def fusion_tensors(saved: Saved, names: Sequence[str], backbone: Backbone) -> dict[str, dict[str, Tensor]]:
    """By the path of the sublayer's last module in the trunk, the fusion's tensors by ending."""
    places, mark = bottleneck_locations(backbone), f".adapter_fusion_layer.{','.join(names)}."
    at: dict[str, dict[str, Tensor]] = {}
    for place, found in tensors_at(saved.tensors, mark, places, (*_RENAMED, "key.bias")).items():
        own = {_RENAMED[ending]: tensor for ending, tensor in found.items() if ending != "key.bias"}
        if (value := own.get("fusion_value.weight")) is not None:
            own["fusion_value.weight"] = value - torch.eye(len(value))
        at[places[place].output] = own
    return at


def _single(child: Any) -> Any:
    """The name of an adapter that stands alone in a setup."""
    if isinstance(child, dict) and child.get("type") == "single" and len(child.get("children") or ()) == 1:
        return child["children"][0]
    return child


def _is_plain(name: object) -> bool:
    """Whether a name from a file is one plain name of a folder."""
    return isinstance(name, str) and 0 < len(name) < 200 and not set("/\\\0,") & set(name) and not name.startswith(".")
