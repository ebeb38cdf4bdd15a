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

import copy
import inspect
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from adapterkit.backbone.recognise import final_norms
from adapterkit.backbone.trunk import shallow
from adapterkit.errors import SiteError

_HANDED = "_handed_states"
_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def layers_of(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The path and the list of a model's layers: those of the encoder where it has a decoder too.

    transformers' layers, and nothing else in its models, can be checkpointed one by one, whatever is attached in them.

    Raises:
        SiteError: there is no list of layers.
    """
    found: dict[str, nn.ModuleList] = {}
    for path, module in model.named_modules():
        is_list = isinstance(module, nn.ModuleList) and len(module)
        if is_list and all(isinstance(layer, GradientCheckpointingLayer) for layer in cast(nn.ModuleList, module)):
            found[path] = cast(nn.ModuleList, module)
    if not found:
        raise SiteError(
            f"{type(model).__name__} cannot be split: it holds no list of layers",
            ["found: no list of transformers' own layers, expected one"],
        )
    path = next((path for path in found if "decoder" not in path.split(".")), next(iter(found)))
    return path, found[path]


class Below(nn.Module):
    """The lower part of a trunk. Made by `below`."""

    def __init__(self, stack: PreTrainedModel) -> None:
        super().__init__()
        self.stack = stack
        self._keeps = "use_cache" in inspect.signature(stack.forward).parameters

    def forward(self, **inputs: Any) -> Tensor:
        """The hidden states that enter the layer, (B, T, D).

        Args:
            inputs: as the whole trunk takes them; a decoder's inputs do not count.
        """
        own = {name: value for name, value in inputs.items() if not name.startswith("decoder_")}
        if self._keeps:
            own["use_cache"] = False
        states_BTD: Tensor = self.stack(**own).last_hidden_state
        return states_BTD


def below(trunk: nn.Module, at: int) -> Below:
    """What lies below layer `at`: its forward gives the hidden states that enter this layer.

    Args:
        trunk: a trunk, or a model that holds one.
        at: 0 for the states that the embeddings give, the number of layers for those that the last layer gives,
            before a final norm.

    Raises:
        SiteError: there is no such layer.
    """
    path, layers = _checked(trunk, at)
    view, shortened = _opened(trunk, path)
    for index in range(at, len(layers)):
        del shortened._modules[str(index)]
    owner = view.get_submodule(path.rpartition(".")[0])
    for name in final_norms(trunk, path):
        owner._modules[name] = nn.Identity()
    # An encoder-decoder's encoder is a model too, so the innermost model is the one that runs these layers alone.
    steps = path.split(".")
    around = [view, *(view.get_submodule(".".join(steps[:depth])) for depth in range(1, len(steps)))]
    stack = [module for module in around if isinstance(module, PreTrainedModel)][-1]
    if "pooler" in stack._modules:
        stack._modules["pooler"] = None
    return Below(stack)


def above(trunk: nn.Module, at: int) -> nn.Module:
    """What lies above: layers `at` and up, the final norm, the pooler, a decoder, and a head if the model has one.

    The view is an instance of the trunk's class and is called with the trunk's inputs, inside `entering`. It runs
    one forward at a time (any number of views may share a trunk), and fills no key-value cache for generation.

    Args:
        trunk: a trunk, or a model that holds one.
        at: from 0 to the number of layers; the latter leaves the final norm and what follows.

    Raises:
        SiteError: there is no such layer.
    """
    path, layers = _checked(trunk, at)
    view, upper = _opened(trunk, path)
    handed = _Handed()
    for index, layer in enumerate(layers[:at]):
        upper._modules[str(index)] = _absent(layer, handed if index == 0 else None)
    if at == 0:
        upper._modules["0"] = _stand_in(layers[0], _Entered, {"_handed": handed, "_layer": (layers[0],)})
    _drop_embeddings(view, path, handed)
    view.__dict__[_HANDED] = handed
    return view


@contextmanager
def entering(view: nn.Module, states_BTD: Tensor) -> Iterator[None]:
    """Inside, a view made by `above` takes these states for those that enter its lowest layer.

    Raises:
        SiteError: the view was not made by `above`.
    """
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


class _Handed:
    """The states that a view was handed, for the one forward that runs on it."""

    def __init__(self) -> None:
        self.states: Tensor | None = None

    def take(self) -> Tensor:
        if self.states is None:
            raise SiteError(
                "the upper part of a trunk was called without states",
                remedy="Call it inside `with entering(view, states):`.",
            )
        return self.states


class _Absent:
    """Stands for a layer that does not run: gives back the states that it was handed, or else those that came."""

    _handed: _Handed | None

    def forward(self, states_BTD: Tensor, *_: Any, **__: Any) -> Any:
        return states_BTD if self._handed is None else self._handed.take()


class _AbsentWithBias:
    """The same for T5, whose first layer computes the bias of all positions and hands it on from layer to layer."""

    _handed: _Handed | None

    def forward(
        self: Any, states_BTD: Tensor, mask: Tensor | None = None, bias_1HTT: Tensor | None = None, *_: Any, **__: Any
    ) -> Any:
        states_BTD = states_BTD if self._handed is None else self._handed.take()
        if bias_1HTT is None:
            length = states_BTD.shape[1]
            bias_1HTT = _biased(self)[0].compute_bias(length, length, device=states_BTD.device)
        return states_BTD, bias_1HTT, None


class _Entered:
    """The lowest layer itself, entered by the states that the view was handed."""

    _handed: _Handed
    _layer: tuple[nn.Module]

    def forward(self, _: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self._layer[0](self._handed.take(), *args, **kwargs)


class _Embedded:
    """Stands for the embeddings: what it gives has the shape of the states and goes nowhere."""

    _handed: _Handed

    def forward(self, *_: Any, **__: Any) -> Tensor:
        return self._handed.take()


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
        here._modules[name] = shallow(here.get_submodule(name))
        here = here.get_submodule(name)
    return view, cast(nn.ModuleList, here)


def _absent(layer: nn.Module, handed: _Handed | None) -> nn.Module:
    return _stand_in(layer, _AbsentWithBias if _biased(layer) else _Absent, {"_handed": handed})


def _biased(layer: nn.Module) -> list[Any]:
    """The attentions of a layer that can compute a bias of positions."""
    return [part for part in layer.modules() if hasattr(part, "compute_bias")]


def _drop_embeddings(view: nn.Module, path: str, handed: _Handed) -> None:
    """Let the nearest module beside the layers that embeds tokens cost nothing."""
    steps = path.split(".")
    for depth in range(len(steps) - 1, -1, -1):
        owner = view.get_submodule(".".join(steps[:depth]))
        for name, child in owner.named_children():
            if name != steps[depth] and _embeds_tokens(child, owner):
                owner._modules[name] = _stand_in(child, _Embedded, {"_handed": handed})
                return


def _embeds_tokens(module: nn.Module, owner: nn.Module) -> bool:
    words = getattr(getattr(owner, "config", None), "vocab_size", None)
    tables = [part for part in module.modules() if isinstance(part, nn.Embedding)]
    return any(table.num_embeddings == words for table in tables) and not isinstance(module, PreTrainedModel)


def _stand_in(module: nn.Module, kind: type, facts: dict[str, Any]) -> nn.Module:
    """A copy of a module that shares children and tensors, under their names, but runs otherwise."""
    copied = copy.copy(module)
    for table in _HOOKS:
        copied.__dict__[table] = OrderedDict()
    copied.__dict__.pop("forward", None)
    copied.__dict__.update(facts, training=False, gradient_checkpointing=False)
    copied.__class__ = _stand_in_class(kind, type(module))
    return copied


def _stand_in_class(kind: type, base: type[nn.Module]) -> type[nn.Module]:
    names = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": kind.__doc__}
    return type(base.__name__, (kind, base), names)
