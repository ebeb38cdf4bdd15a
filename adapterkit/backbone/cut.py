"""A trunk split at a layer: what lies below depends on the text alone, what lies above runs on stored states.

Both halves are views. They share every layer and every tensor with the trunk, so that a method which is attached inside
the trunk's layers, before or after, is in them too. Layer `at` of an encoder-decoder is one of its encoder.

    states_BTD = below(trunk, at)(**inputs)
    upper = above(trunk, at)
    with entering(upper, states_BTD):
        output = upper(**inputs)             # every bit as trunk(**inputs) gives it

`above` also takes a model that holds the trunk, with its head: its view then answers with logits.

Axes: B rows, T tokens, D hidden width, H attention heads.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from adapterkit.backbone.pretrained import is_layer, is_model
from adapterkit.backbone.recognise import final_norms, is_linear
from adapterkit.backbone.stand_ins import Absent, AbsentWithBias, Embedded, Entered, Handed, Watched, biased, stand_in
from adapterkit.backbone.trunk import shallow
from adapterkit.errors import SiteError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_HANDED = "adapterkit_handed"


def layers_of(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The path and the list of a model's layers: those of the encoder where it has a decoder too. transformers' layers,
    and nothing else in its models, can be checkpointed one by one, whatever is attached in them. Raises SiteError:
    there is no list of layers."""
    found: dict[str, nn.ModuleList] = {}
    for path, module in model.named_modules():
        is_list = isinstance(module, nn.ModuleList) and len(module)
        if is_list and all(map(is_layer, cast(nn.ModuleList, module))):
            found[path] = cast(nn.ModuleList, module)
    if not found:
        told = ["found: no list of transformers' own layers, expected one"]
        raise SiteError(f"{type(model).__name__} cannot be split: it holds no list of layers", told)
    path = next((path for path in found if "decoder" not in path.split(".")), next(iter(found)))
    return path, found[path]


def can_be_cut(trunk: PreTrainedModel) -> bool:
    """Whether the halves of a trunk answer as the whole does; tried on two tokens, between its two middle layers.

    A model may do between its layers what no half does, as the largest DeBERTa-v2 after the first.
    """
    ids_BT = torch.zeros(1, 2, dtype=torch.long, device=trunk.device)
    given = {"input_ids": ids_BT, "attention_mask": torch.ones_like(ids_BT)}
    if trunk.config.is_encoder_decoder:
        given["decoder_input_ids"] = ids_BT
    try:
        _, layers = layers_of(trunk)
        middle = (len(layers) + 1) // 2
        with torch.no_grad(), _evaluated(trunk):
            expected = trunk(**given).last_hidden_state
            states_BTD = below(trunk, middle)(**given)
            view = above(trunk, middle)
            with entering(view, states_BTD):
                found = view(**given).last_hidden_state
    except Exception:  # noqa: BLE001 - whatever the code of a model raises when a part of it is missing
        return False
    return bool((found - expected).norm() <= 0.01 * expected.norm())


class Below(nn.Module):
    """The lower layers of a trunk. Made by `below`."""

    def __init__(self, trunk: PreTrainedModel) -> None:
        super().__init__()
        self.trunk = trunk
        self._keeps = "use_cache" in inspect.signature(trunk.forward).parameters

    def forward(self, **inputs: Any) -> Tensor:
        """The hidden states that enter the layer, (B, T, D).
        `inputs`: as the whole trunk takes them; a decoder's inputs do not count."""
        own = {name: value for name, value in inputs.items() if not name.startswith("decoder_")}
        if self._keeps:
            own["use_cache"] = False
        states_BTD: Tensor = self.trunk(**own).last_hidden_state
        return states_BTD


def below(trunk: nn.Module, at: int) -> Below:
    """What lies below layer `at`: its forward gives the hidden states that enter this layer.
    `trunk`: a trunk, or a model that holds one. `at`: 0 for the states that the embeddings give, the number of layers
    for those that the last layer gives, before a final norm. Raises SiteError: there is no such layer."""
    path, _ = _checked(trunk, at)
    view, shortened = _opened(trunk, path)
    del shortened[at:]
    return _below(trunk, view, path)


def _below(trunk: nn.Module, view: nn.Module, path: str) -> Below:
    """The trunk of a view whose layers were changed, without what follows them."""
    owner = view.get_submodule(path.rpartition(".")[0])
    for name in final_norms(trunk, path):
        owner.register_module(name, nn.Identity())
    # An encoder-decoder's encoder is a model too, so the innermost model is the one that runs these layers alone.
    steps = path.split(".")
    around = [view, *(view.get_submodule(".".join(steps[:depth])) for depth in range(1, len(steps)))]
    trunk = [module for module in around if is_model(module)][-1]
    if getattr(trunk, "pooler", None) is not None:
        trunk.register_module("pooler", None)
    return Below(trunk)


def above(trunk: nn.Module, at: int) -> nn.Module:
    """What lies above: layers `at` and up, the final norm, the pooler, a decoder, and a head if the model has one. The
    number of layers leaves the final norm and what follows. Raises SiteError: there is no such layer.

    The view is an instance of the trunk's class and is called with the trunk's inputs, inside `entering`. It runs one
    forward at a time (any number of views may share a trunk), and fills no key-value cache for generation.
    """
    path, layers = _checked(trunk, at)
    view, upper = _opened(trunk, path)
    handed = Handed()
    gives = partial(_gives, trunk, path, layers[0])
    for index, layer in enumerate(layers[:at]):
        kind = AbsentWithBias if biased(layer) else Absent
        upper[index] = stand_in(layer, kind, handed=handed if index == 0 else None, gives=gives)
    if at == 0:
        upper[0] = stand_in(layers[0], Entered, handed=handed, layer=(layers[0],))
    _drop_embeddings(view, path, handed)
    view.__dict__[_HANDED] = handed
    return view


@contextmanager
def entering(view: nn.Module, states_BTD: Tensor) -> Iterator[None]:
    """Inside, a view made by `above` takes these states for those that enter its lowest layer.
    Raises SiteError: the view was not made by `above`."""
    handed = view.__dict__.get(_HANDED)
    if handed is None:
        raise SiteError(
            f"this {type(view).__name__} takes no states", remedy="Make a view that does: above(trunk, at)."
        )
    handed.states = states_BTD
    try:
        yield
    finally:
        handed.states = None


def _checked(trunk: nn.Module, at: int) -> tuple[str, nn.ModuleList]:
    path, layers = layers_of(trunk)
    if not 0 <= at <= len(layers):
        raise SiteError(
            f"{type(trunk).__name__} cannot be split there", [f"layer {at}: must be between 0 and {len(layers)}"]
        )
    return path, layers


def _opened(model: nn.Module, path: str) -> tuple[nn.Module, nn.ModuleList]:
    """A view of the model in which the list of layers, and all that leads to it, can be changed."""
    view = shallow(model)
    here = view
    for name in path.split("."):
        here.register_module(name, shallow(here.get_submodule(name)))
        here = here.get_submodule(name)
    return view, cast(nn.ModuleList, here)


_GIVES: dict[type[nn.Module], int] = {}
"""Classes of layers -> what they give; see `Watched`."""


def _gives(model: nn.Module, path: str, layer: nn.Module) -> int:
    """What a model's layers give, seen by running the lowest one on two tokens, once for each class."""
    if type(layer) not in _GIVES:
        gave: list[int] = []
        view, watched = _opened(model, path)
        del watched[1:]
        watched[0] = stand_in(layer, Watched, layer=(layer,), gave=gave)
        ids_BT = torch.zeros(1, 2, dtype=torch.long, device=next(layer.parameters()).device)
        with torch.no_grad(), _evaluated(model):
            _below(model, view, path)(input_ids=ids_BT, attention_mask=torch.ones_like(ids_BT))
        _GIVES[type(layer)] = gave[0]
    return _GIVES[type(layer)]


def _drop_embeddings(view: nn.Module, path: str, handed: Handed) -> None:
    """Let the nearest module beside the layers that embeds tokens cost nothing."""
    steps = path.split(".")
    for depth in range(len(steps) - 1, -1, -1):
        owner = view.get_submodule(".".join(steps[:depth]))
        for name, child in owner.named_children():
            width = None if name == steps[depth] else _embedding_width(child, owner)
            if width is not None:
                width = None if any(map(is_linear, child.modules())) else width
                owner.register_module(name, stand_in(child, Embedded, handed=handed, width=width))
                return


def _embedding_width(module: nn.Module, owner: nn.Module) -> int | None:
    """The width of a token's vector in a module that looks it up, before any linear in it; None for other modules."""
    words = getattr(getattr(owner, "config", None), "vocab_size", None)
    tables = [part for part in module.modules() if isinstance(part, nn.Embedding) and part.num_embeddings == words]
    return tables[0].embedding_dim if tables and not is_model(module) else None


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    """Nothing is dropped inside."""
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True
