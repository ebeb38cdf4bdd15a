"""A head of AdapterHub's in our words: the kind of task, the head's settings, and its tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from adapterkit.adapted import PREFIX
from adapterkit.artifact.convert.adapterhub.folder import Saved
from adapterkit.artifact.tensors import shortened
from adapterkit.backbone import Backbone
from adapterkit.errors import ArtifactError
from adapterkit.heads import Headed
from adapterkit.heads.own import HEAD_NAME
from adapterkit.recipe import HeadSettings
from adapterkit.recipe.kinds import BELONGS, FACTS, KINDS

HEAD_TYPES = {word: kind for kind, facts in FACTS.items() for word in facts.adapterhub}
"""AdapterHub's kind of head -> the kind of task."""


@dataclass(frozen=True)
class HeadFacts:
    """What a folder says of its head."""

    kind: str
    """Of the task."""
    settings: HeadSettings
    """Of the head."""
    labels: tuple[str, ...] | None = None
    """Names in the order of the logits, or None."""
    problem: str = ""
    """Of a text classification, or ""."""
    layers: Sequence[Mapping[str, Tensor]] = ()
    """AdapterHub's linears, the first one first; empty where the tensors have the class's own names."""
    named: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors under the names of transformers' class."""


def describe_head(head: Saved | None, backbone: Backbone, kind: str | None) -> HeadFacts:
    """What kind of task and head a folder has.
    `head`: None where the folder has none. `kind`: of the task, where the caller says it. Raises ArtifactError: a head
    that adapterkit does not have, or no head and no kind that does without."""
    if head is None:
        if kind is None or not FACTS[kind].borrows_head:
            raise ArtifactError(
                "the folder has no head",
                ["head_config.json: no such file"],
                "Save it with its head (save_adapter(…, with_head=True)); an adapter for the language alone is "
                "imported as a language model's: kind=masked-lm, causal-lm or seq2seq-lm (--kind).",
            )
        return HeadFacts(kind, HeadSettings(kind="family"))
    config = head.config.get("config")
    if config is None:  # of a transformers class, which AdapterHub saves under the class's own names
        name = str(head.config.get("model_class"))
        ends = {of.auto_class.removeprefix("AutoModel"): each for each, of in FACTS.items()} | HEAD_TYPES
        stated = next((each for end, each in ends.items() if name.endswith(end)), kind)
        if stated is None:
            problem = f"head_config.json: model_class {head.config.get('model_class')!r:.60}"
            remedy = f"Pass kind= one of {', '.join(KINDS)}."
            raise ArtifactError("the folder does not say what its head is for", [problem], remedy)
        labels = _labels(head.config.get("label2id")) if stated in BELONGS["labels"] else None
        facts = HeadFacts(stated, HeadSettings(kind="family"), labels, named=dict(head.tensors))
    else:
        facts = _flexible_head(config, head, backbone)
    if kind is not None and kind != facts.kind:
        raise ArtifactError(
            f"the folder's head is for {facts.kind}, and {kind} was asked for", remedy="Leave kind out."
        )
    return facts


def head_tensors(facts: HeadFacts, bare: Headed) -> dict[str, Tensor]:
    """The head's tensors by their names in an artifact. `bare`: a head of these settings on the backbone. Raises
    ArtifactError: tensors of a language model's head that are not those of the checkpoint."""
    if FACTS[facts.kind].borrows_head:
        own = dict(facts.named) | {f"{n}.{e}": t for n, layer in enumerate(facts.layers) for e, t in layer.items()}
        _check_borrowed(own, bare)
        return {}
    if not facts.layers:
        return {PREFIX + name: tensor for name, tensor in facts.named.items()}
    if facts.settings.is_own:
        names = ["classifier"] if len(facts.layers) == 1 else ["dense", "classifier"]
        paths = [f"{HEAD_NAME}.output.{name}" for name in names]
    else:
        paths = list(dict.fromkeys(name.rpartition(".")[0] for name in bare.trained))
    if len(paths) != len(facts.layers):
        found = f"{len(facts.layers)} linears, and the class's head has {len(paths)} ({', '.join(paths)})"
        raise ArtifactError("the folder's head is not the class's", [f"head: {found}"])
    tensors = {}
    for path, layer in zip(paths, facts.layers, strict=True):
        for name in (name for name in bare.trained if name.rpartition(".")[0] == path):
            ending = name.rpartition(".")[2]
            tensors[PREFIX + name] = layer.get(ending, torch.zeros(len(layer["weight"])))
    return tensors


def _flexible_head(config: Mapping[str, Any], head: Saved, backbone: Backbone) -> HeadFacts:
    """A stack of linears that AdapterHub puts on any model."""
    kind = HEAD_TYPES.get(str(config.get("head_type")))
    if kind is None:
        raise ArtifactError(
            "the folder's head is for a task that adapterkit does not have",
            [f"head_type: found {config.get('head_type')!r:.60}, expected one of {', '.join(HEAD_TYPES)}"],
        )
    start = f"heads.{head.name}."
    stacks: dict[int, dict[str, Tensor]] = {}
    strange = []
    for name, tensor in head.tensors.items():
        number, _, ending = name.removeprefix(start).partition(".")
        if not name.startswith(start) or not number.isdecimal() or ending not in ("weight", "bias"):
            strange.append(f"{name[:200]!r}: no place for it in a head")
        else:
            stacks.setdefault(int(number), {})[ending] = tensor
    layers = tuple(stacks[number] for number in sorted(stacks))
    if FACTS[kind].borrows_head:
        return HeadFacts(kind, HeadSettings(kind="family"), layers=layers)
    depth, activation = config.get("layers"), config.get("activation_function")
    if depth not in (1, 2) or len(layers) != depth or any("weight" not in layer for layer in layers):
        strange.append(f"layers: {depth!r:.20} and tensors of {len(layers)}; heads have 1 or 2")
    family = bool(config.get("use_pooler")) or backbone.is_encoder_decoder
    distilbert = backbone.config.model_type == "distilbert" and FACTS[kind].pooled and activation == "relu"
    family = family or (distilbert and depth == 2)  # whose class has a relu between its two
    if depth == 2 and activation != "tanh" and not distilbert:
        strange.append(f"activation_function: found {activation!r:.20}, expected tanh between two linears")
    if config.get("use_pooler"):
        if depth != 1:
            strange.append("use_pooler: with 2 layers; a pooled head has 1")
        if any(name.startswith("pooler.") for name in backbone.uninitialized):
            strange.append("use_pooler: this checkpoint has no pooler, so the head was trained on a random one")
    if strange:
        raise ArtifactError(
            "the folder's head is one that adapterkit does not have",
            shortened(strange),
            "Serve it with AdapterHub, or import the adapter without its head and train a new one.",
        )
    pooling = "last" if backbone.is_decoder else "first"
    pooled: dict[str, Any] = {"pooling": pooling} if FACTS[kind].pooled else {}
    settings = HeadSettings(kind="family") if family else HeadSettings(kind="linear" if depth == 1 else "mlp", **pooled)
    problem = "multi-label" if config["head_type"].startswith("multilabel") else ""
    if config["head_type"] == "classification" and config.get("num_labels") == 1:
        problem = "regression"
    labels = _labels(config.get("label2id")) if problem != "regression" and kind in BELONGS["labels"] else None
    return HeadFacts(kind, settings, labels, problem, layers)


def _labels(numbers: Any) -> tuple[str, ...] | None:
    """Names in the order of their numbers; None where they are not one for each."""
    if not isinstance(numbers, dict) or not numbers:
        return None
    by_number = {number: str(label) for label, number in numbers.items() if type(number) is int}
    in_order = sorted(by_number) == list(range(len(numbers)))
    return tuple(by_number[number] for number in range(len(numbers))) if in_order else None


def _check_borrowed(own: Mapping[str, Tensor], bare: Headed) -> None:
    """Raises ArtifactError where a language model's head holds a tensor that the checkpoint does not."""
    there: dict[tuple[int, ...], list[Tensor]] = {}
    for tensor in [*bare.module.parameters(), *bare.module.buffers()]:
        there.setdefault(tuple(tensor.shape), []).append(tensor.detach().cpu().float())
    strange = [
        f"{name[:200]!r}: shape {tuple(tensor.shape)}: no such tensor in the checkpoint"
        for name, tensor in own.items()
        if bool(tensor.any())
        and not any(torch.equal(tensor.float(), other) for other in there.get(tuple(tensor.shape), ()))
    ]
    if strange:
        raise ArtifactError(
            "the folder brings a language model's head of its own, and adapters share the checkpoint's",
            shortened(strange),
            "Serve it with AdapterHub, or import the adapter without its head.",
        )
