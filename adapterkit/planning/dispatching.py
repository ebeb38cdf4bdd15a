"""What torch has below its operations and does not promise: tensors without content, modes that see all operations."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._python_dispatch import _disable_current_modes as without_modes
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["FakeTensor", "FakeTensorMode", "FlopCounterMode", "TorchDispatchMode", "without_modes"]

COPY_TO = torch.ops.aten._to_copy.default
"""The operation behind `tensor.to(…)`."""


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, torch prints no traceback of an operation that fails without content."""
    log = logging.getLogger(FakeTensor.__module__)
    was_disabled, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = was_disabled


def tensors_among(values: Any) -> list[Tensor]:
    """Tensors in nested lists, tuples and dicts."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def storage_key(storage: torch.UntypedStorage) -> int:
    """The same for every tensor in one storage, as long as the storage lives."""
    return int(storage._cdata)


def replace_tensors(module: nn.Module, make: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Put what `make` gives in the place of every parameter and buffer; shared ones stay shared. Returns all of it."""
    made: dict[int, Tensor] = {}
    for inner in module.modules():
        parameters = inner.named_parameters(recurse=False, remove_duplicate=False)
        for name, tensor in [*parameters, *inner.named_buffers(recurse=False, remove_duplicate=False)]:
            if id(tensor) not in made:
                new, is_parameter = make(tensor), isinstance(tensor, nn.Parameter)
                made[id(tensor)] = nn.Parameter(new, requires_grad=tensor.requires_grad) if is_parameter else new
            setattr(inner, name, made[id(tensor)])
    return list(made.values())
