"""Tensors of a PEFT folder as an artifact has them: names unwrapped, heads made whole, what belongs to nobody refused.

Axes: R rank, I inputs, O outputs.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adapterkit.adapted import PREFIX, build
from adapterkit.artifact.contents import method_target
from adapterkit.artifact.convert.imports import SEED
from adapterkit.artifact.convert.peft_facts import PeftFacts
from adapterkit.artifact.tensors import shortened
from adapterkit.backbone import Backbone
from adapterkit.errors import ArtifactError
from adapterkit.heads import Headed
from adapterkit.heads.own import HEAD_NAME
from adapterkit.manifest import TENSORS
from adapterkit.recipe import HeadSettings, MethodSettings
from adapterkit.tasks.protocol import Task

WRAPPERS = re.compile(r"module|_(fsdp|checkpoint)_wrapped_module|_orig_mod")
"""Modules that DDP, DeepSpeed, FSDP, checkpointing and torch.compile put around others while they train."""

_KEEP = "An artifact holds no tensor of the backbone, which all adapters share. "
_REASONS: Mapping[str, str] = {
    "added tokens": "Train without new tokens, or merge the adapter into a checkpoint of its own with them.",
    "embeddings": "Train without them in modules_to_save and target_modules, or merge the adapter into a checkpoint.",
    "norms": "Train without them in modules_to_save, or merge the adapter into a checkpoint of its own.",
    "other weights of the backbone": "Adapt them by LoRA, or merge the adapter into a checkpoint of its own.",
}
"""What a folder may hold of the backbone -> what to do about it."""


def without_wrappers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take out of the names what training has wrapped modules in. Raises ArtifactError where two names become one."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        plain = ".".join(piece for piece in name.split(".") if not WRAPPERS.fullmatch(piece))
        if plain in found:
            raise ArtifactError("the folder holds a tensor twice", [f"{TENSORS}: {name[:200]!r} and {plain[:200]!r}"])
        found[plain] = tensor
    return found


def refuse_backbone_tensors(tensors: Mapping[str, Tensor], facts: PeftFacts, bare: Headed) -> None:
    """Raise ArtifactError for tensors of the backbone, saying of which sort they are and what to do about it."""
    modules, sorts = dict(bare.module.named_modules()), {}
    for name, tensor in tensors.items():
        path, _, ending = name.removeprefix(PREFIX).rpartition(".")
        if ending in ("lora_embedding_A", "lora_embedding_B"):
            sorts[name] = "embeddings"
            continue
        own = method_target(name, facts.method) is not None or name.removeprefix(PREFIX) in bare.trained
        if not own and (sort := _sort(modules.get(path), tensor, path, ending, bare.module, facts.bias)):
            sorts[name] = sort
    if sorts:
        problems = [f"{TENSORS}: {name[:200]!r}: {sort}" for name, sort in sorts.items()]
        remedy = " ".join(_REASONS[sort] for sort in dict.fromkeys(sorts.values()))
        raise ArtifactError("it holds tensors of the backbone", shortened(problems), _KEEP + remedy)


def _sort(module: nn.Module | None, tensor: Tensor, path: str, ending: str, model: Any, bias: str) -> str:
    if "pooler" in path.split(".") or module is None or (ending == "bias" and bias != "none"):
        return ""  # a pooler belongs to the head; what has no place at all is said by the comparison with the adapter
    if isinstance(module, nn.Embedding) or module is model.get_output_embeddings():
        return "added tokens" if tensor.dim() and len(tensor) > len(module.weight) else "embeddings"
    return "norms" if "norm" in type(module).__name__.lower() else "other weights of the backbone"


def with_checkpoint_head(tensors: Mapping[str, Tensor], bare: Headed) -> dict[str, Tensor]:
    """Fill what PEFT does not save of a head whose values the checkpoint holds (ModernBERT's `head`)."""
    kept = {PREFIX + name: bare.trained[name].detach() for name in bare.loaded if name in bare.trained}
    return {**kept, **tensors}


def with_pooler_head(
    tensors: Mapping[str, Tensor], facts: PeftFacts, backbone: Backbone
) -> tuple[dict[str, Tensor], HeadSettings] | None:
    """BERT's pooler with what was trained of it, and the classifier behind it, as one head of ours; None where nothing
    was trained of it.

    The pooler is tanh(W x + b) of the first token: with a linear behind it that is the head `mlp`. A LoRA on it goes
    into W.
    """
    trunk: Any = backbone.trunk
    start = f"{PREFIX}{trunk.base_model_prefix}.pooler.dense."
    pooler = getattr(trunk, "pooler", None)
    own = {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
    plain = isinstance(getattr(pooler, "activation", None), nn.Tanh) and hasattr(pooler, "dense")
    heads = {ending: f"{PREFIX}classifier.{ending}" for ending in ("weight", "bias")}
    untrained = any(name.startswith("pooler.") for name in backbone.uninitialized)
    if not own or not plain or untrained or not set(heads.values()) <= tensors.keys():
        return None
    weight = own.get("weight", pooler.dense.weight.detach()).float()  # type: ignore[union-attr]
    bias = own.get("bias", pooler.dense.bias.detach()).float()  # type: ignore[union-attr]
    if "lora_A.weight" in own and "lora_B.weight" in own and not facts.dora:
        rank = len(own["lora_A.weight"])
        scale = facts.alpha_of(start[len(PREFIX) : -1]) / (rank**0.5 if facts.rslora else rank)
        weight = weight + scale * own["lora_B.weight"].float() @ own["lora_A.weight"].float()
    elif set(own) - {"weight", "bias"}:
        return None
    kept = {n: t for n, t in tensors.items() if not n.startswith(start) and n not in heads.values()}
    head = f"{PREFIX}{HEAD_NAME}.output."
    kept |= {f"{head}dense.weight": weight, f"{head}dense.bias": bias}
    kept |= {f"{head}classifier.{ending}": tensors[name].float() for ending, name in heads.items()}
    return kept, HeadSettings(kind="mlp", pooling="first")


def with_moved_weight(
    facts: PeftFacts,
    method: MethodSettings,
    tensors: dict[str, Tensor],
    backbone: Backbone,
    task: Task,
    head: HeadSettings,
) -> tuple[MethodSettings, dict[str, Tensor]]:
    """PiSSA and OLoRA as PEFT saves them while they train, relative to weights that they have changed at birth; any
    other method as it is.

    What they took out of the weights is computed again, as PEFT does when it loads them: (A; A0) and (B, -B0) are
    relative to the untouched backbone.
    """
    if not facts.moved:
        return method, tensors
    method = method.model_copy(update={"initialization": facts.moved})
    with build(backbone, task, method, head, SEED) as born:
        at_birth = born.state()
    found = dict(tensors)
    for name, tensor in tensors.items():
        if name.endswith("lora_A.weight"):
            found[name] = torch.cat([tensor.float(), at_birth[name][len(tensor) :]])
        elif name.endswith("lora_B.weight"):
            found[name] = torch.cat([tensor.float(), at_birth[name][:, tensor.shape[1] :]], dim=1)
    return method, found
