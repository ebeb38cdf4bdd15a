"""What stands in a view of a trunk for the modules that do not run, or do not run as they are.

Axes: B rows, T tokens, D hidden width.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from adapterkit.backbone.module_tables import without_hooks
from adapterkit.errors import SiteError


class Handed:
    """The states that a view was handed, for the one forward that runs on it."""

    def __init__(self) -> None:
        self.states: Tensor | None = None

    def take(self) -> Tensor:
        if self.states is None:
            raise SiteError(
                "the upper layers of a trunk were called without states",
                remedy="Call it inside `with entering(view, states):`.",
            )
        return self.states


class Absent:
    """Stands for a layer that does not run: gives back the states that it was handed, or else those that came."""

    _handed: Handed | None
    _gives: Callable[[], int]

    def forward(self, states_BTD: Tensor, *_: Any, **__: Any) -> Any:
        states_BTD = states_BTD if self._handed is None else self._handed.take()
        count = self._gives()
        return (states_BTD, *[None] * (count - 1)) if count else states_BTD


class AbsentWithBias:
    """The same for T5, whose first layer computes the bias of all positions and hands it on from layer to layer."""

    _handed: Handed | None

    def forward(
        self: Any, states_BTD: Tensor, mask: Tensor | None = None, bias_1HTT: Tensor | None = None, *_: Any, **__: Any
    ) -> Any:
        states_BTD = states_BTD if self._handed is None else self._handed.take()
        if bias_1HTT is None:
            length = states_BTD.shape[1]
            bias_1HTT = biased(self)[0].compute_bias(length, length, device=states_BTD.device)
        return states_BTD, bias_1HTT, None


class Entered:
    """The lowest layer itself, entered by the states that the view was handed."""

    _handed: Handed
    _layer: tuple[nn.Module]

    def forward(self, _: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self._layer[0](self._handed.take(), *args, **kwargs)


class Watched:
    """The lowest layer itself, and how many values it gave: 0 for the states alone, else as many as its tuple holds."""

    _layer: tuple[nn.Module]
    _gave: list[int]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        given = self._layer[0](*args, **kwargs)
        self._gave.append(len(given) if isinstance(given, tuple) else 0)
        return given


class Embedded:
    """Stands for the embeddings: what it gives has their shape and goes nowhere."""

    _handed: Handed
    _width: int | None

    def forward(self, *_: Any, **__: Any) -> Tensor:
        states_BTD = self._handed.take()
        if self._width in (None, states_BTD.shape[-1]):
            return states_BTD
        return states_BTD.new_zeros(*states_BTD.shape[:-1], self._width)


def stand_in(module: nn.Module, kind: type, **facts: Any) -> nn.Module:
    """A copy of a module that shares children and tensors, under their names, but runs otherwise.
    `kind`: one of the classes above. `facts`: its attributes, without their underscore."""
    copied = without_hooks(module)
    copied.__dict__.pop("forward", None)
    copied.__dict__.update(
        {f"_{name}": fact for name, fact in facts.items()}, training=False, gradient_checkpointing=False
    )
    base = type(module)
    names = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": kind.__doc__}
    copied.__class__ = type(base.__name__, (kind, base), names)
    return copied


def biased(layer: nn.Module) -> list[Any]:
    """The attentions of a layer that can compute a bias of positions."""
    return [inner for inner in layer.modules() if hasattr(inner, "compute_bias")]
