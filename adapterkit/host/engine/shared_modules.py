"""A view of a trunk: a second set of modules around the very same tensors, whose modules do a batch's work.

The host never touches the trunk itself: while views answer, the trunk stays what it was and may be trained.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import Conv1D

from adapterkit.backbone import packed_weights
from adapterkit.backbone.packed_weights import is_packed
from adapterkit.backbone.quantisation import is_plain
from adapterkit.backbone.trunk import twin_of
from adapterkit.host.engine.products import ModuleWork
from adapterkit.methods.reach import check_bare


class Hosted:
    """What a view's module at a path does more than its class: hand its input and its output to the batch's `work`, and
    where it `records`, its first input to others later in the call, by the view's `residuals`."""

    work: ModuleWork | None
    records: bool
    residuals: dict[str, Tensor]
    path: str

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The class's own forward; with work, what the work makes of it."""
        if self.records:
            self.residuals[self.path] = _first(args, kwargs)
        if self.work is None:
            return super().forward(*args, **kwargs)  # type: ignore[misc]
        x = _first(args, kwargs)
        y = self.work.merged_product(x)
        if y is not None:
            return self.work.apply(x, y, self.residuals, merged=True)
        return self.work.apply(x, super().forward(*args, **kwargs), self.residuals)  # type: ignore[misc]


def _first(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return args[0] if args else next(iter(kwargs.values()))


def bare(module: Any, x: Tensor) -> Tensor:
    """What a hosted module's own class makes of x."""
    y: Tensor = super(Hosted, module).forward(x)
    return y


def product(module: Any, x: Tensor) -> Tensor:
    """What a hosted linear makes of x without its bias."""
    if is_packed(module):
        return packed_weights.product(x, module.weight, None)
    if owns_output(module):
        return x @ module.weight if isinstance(module, Conv1D) else nn.functional.linear(x, module.weight)
    y = bare(module, x)
    return y if module.bias is None else y - module.bias


_CLASSES: dict[type[nn.Module], type[nn.Module]] = {}


def host_module(module: nn.Module, path: str, residuals: dict[str, Tensor]) -> None:
    """Let a view's module do a batch's work. Its class keeps its name, and the module everything it has."""
    kind = type(module)
    if issubclass(kind, Hosted):
        return
    hosted = _CLASSES.get(kind)
    if hosted is None:
        # Not torch's own __module__: Dynamo takes every tensor below torch's classes for one of a fixed shape.
        names = {"__module__": __name__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
        hosted = _CLASSES.setdefault(kind, type(kind.__name__, (Hosted, kind), names))
    module.__class__ = hosted
    module.__dict__.update(path=path, residuals=residuals, work=None, records=False)


def owns_output(module: nn.Module) -> bool:
    """Whether a module's output is a fresh tensor that nobody else sees: so for linears in numbers, else unknown."""
    return isinstance(module, nn.Linear | Conv1D) and (is_plain(module) or is_packed(module))


def view_of(trunk: nn.Module) -> nn.Module:
    """A view of a trunk, in eval mode: other modules, and other parameters around the same memory, so that training
    that swaps a trunk's weights for others, as merging does, is not seen. Raises SiteError: an adapter is attached."""
    check_unused(trunk)
    return twin_of(trunk).requires_grad_(False).eval()


def check_unused(trunk: nn.Module) -> None:
    """Raises SiteError where an adapter is attached to the trunk."""
    check_bare(
        trunk,
        "a host needs the bare backbone, and an adapter is attached to it",
        "Detach the adapter first; it can be attached again once the host is made.",
    )
