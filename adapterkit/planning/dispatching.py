"""What torch has below its operations and does not promise: tensors without content, modes that see all operations."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["FakeTensor", "FakeTensorMode", "FlopCounterMode", "TorchDispatchMode"]

COPY_TO = torch.ops.aten._to_copy.default
"""The operation behind `tensor.to(…)`."""


@contextmanager
def without_modes() -> Iterator[None]:
    """Inside, operations are what they are without any mode."""
    with _disable_current_modes():
        yield


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


def tensors_of(module: nn.Module) -> list[tuple[str, Tensor]]:
    """A module's own parameters and buffers by name; one that has two names comes twice."""
    parameters = module.named_parameters(recurse=False, remove_duplicate=False)
    return [*parameters, *module.named_buffers(recurse=False, remove_duplicate=False)]
