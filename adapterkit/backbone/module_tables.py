"""torch's modules from the inside: the tables in which a module keeps its children, its tensors and its hooks.

torch promises how a module is asked and changed, not how a second one may stand around the same children. All that
reaches into the tables for that stands here.
"""

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

CHILDREN = "_modules"
PARAMETERS = "_parameters"
BUFFERS = "_buffers"
HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def _copied(module: ModuleT) -> ModuleT:
    """A copy that shares everything. `copy.copy` calls `__new__`, which FSDP changes for a module in shards."""
    view = object.__new__(type(module))
    view.__dict__.update(module.__dict__)
    return view


def with_own_tables(module: ModuleT) -> ModuleT:
    """A copy that shares every child, tensor and hook, and may be given others or be hooked itself."""
    view = _copied(module)
    for table in (CHILDREN, PARAMETERS, BUFFERS, "_forward_hooks", "_forward_pre_hooks"):
        view.__dict__[table] = copy.copy(module.__dict__[table])
    return view


def with_own_children(module: ModuleT) -> ModuleT:
    """A copy that shares every child, tensor and hook, and may be given other children."""
    view = _copied(module)
    view.__dict__[CHILDREN] = dict(module.__dict__[CHILDREN])
    return view


def without_hooks(module: ModuleT) -> ModuleT:
    """A copy that shares the very tables of children and tensors, and has no hooks."""
    view = _copied(module)
    for table in HOOKS:
        view.__dict__[table] = OrderedDict()
    return view


def changed(module: ModuleT, parameters: Mapping[str, Tensor], children: Mapping[str, nn.Module]) -> ModuleT:
    """A copy that shares all but these parameters, which may be plain tensors, and children. It costs microseconds."""
    grown = _copied(module)
    for table, changes in ((PARAMETERS, parameters), (CHILDREN, children)):
        if changes:
            grown.__dict__[table] = {**grown.__dict__[table], **changes}
    return grown


def keep_at_hand(module: nn.Module) -> None:
    """Let a module's children and parameters be found as attributes of its own, where Python looks first.

    torch's tables are asked last, which takes ten times as long. Only for modules that are not given others.
    """
    plain = {name: value for name, value in module.__dict__[PARAMETERS].items() if type(value) is nn.Parameter}
    children = {name: child for name, child in module.__dict__[CHILDREN].items() if child is not None}
    module.__dict__.update(plain, **children)


def has_hooks(module: nn.Module) -> bool:
    """Whether anything is called before or after a module's forward or backward."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def pre_hooks(module: nn.Module) -> list[Any]:
    """What is called before a module's forward."""
    return list(module._forward_pre_hooks.values())
