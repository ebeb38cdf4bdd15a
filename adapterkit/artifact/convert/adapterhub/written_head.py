"""A head of ours as AdapterHub's stack of linears."""

from typing import Any

from torch import Tensor

from adapterkit.adapted import PREFIX
from adapterkit.artifact.convert.answering import temper
from adapterkit.artifact.reading import Artifact
from adapterkit.backbone import Backbone
from adapterkit.recipe.kinds import FACTS

_TWO_LAYERS = {"roberta", "xlm-roberta", "bart", "t5"}
"""Families whose class for texts has a tanh between two linears, over the token that AdapterHub reads too."""


def write_head(
    artifact: Artifact, backbone: Backbone, name: str, problems: list[str]
) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
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
