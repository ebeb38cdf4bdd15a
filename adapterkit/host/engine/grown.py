"""A head's modules with the tensors of one adapter, or of several at once: copies of the few modules that hold them.

For several adapters the class is called once over the rows of all. A module that holds tensors of an adapter goes
through its input adapter by adapter, so that each product is the one that a head makes alone, and no weight is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adapterkit.backbone.module_tables import changed
from adapterkit.heads.headed import in_float32

Role = Literal["trunk", "encoder", "decoder"]
Tensors = Mapping[str, Tensor]


@dataclass
class Branch:
    """What an adapter's copy of a module has of its own: parameters, children that have such, or a stand-in."""

    parameters: dict[str, str] = field(default_factory=dict)
    children: dict[str, Branch] = field(default_factory=dict)
    role: Role | None = None

    def at(self, path: str) -> Branch:
        """The branch of a module below."""
        branch = self
        for name in path.split(".") if path else ():
            branch = branch.children.setdefault(name, Branch())
        return branch

    def joins(self, module: nn.Module) -> bool:
        """Whether every module with parameters of an adapter is one without children, which sees rows one by one."""
        if self.parameters and any(True for _ in module.children()):
            return False
        return all(child.joins(getattr(module, name)) for name, child in self.children.items())


@dataclass(frozen=True)
class Growth:
    """What a copy of a template's modules is made of: every adapter's tensors by path in the head's module, what
    stand-ins hand back, how many rows each adapter has, one behind the other (() for one alone), and a trunk in the
    place of stand-ins where one runs, as generation needs it."""

    adapters: Sequence[Tensors]
    states: Any = None
    rows: Sequence[int] = ()
    trunk: nn.Module | None = None

    def grown(self, module: nn.Module, branch: Branch) -> nn.Module:
        """A copy of a template's module that shares all that no adapter changes."""
        if branch.role is not None and self.trunk is not None:
            return self.trunk if branch.role == "trunk" else self.trunk.get_submodule(branch.role)
        if branch.parameters and len(self.adapters) > 1:
            return self._joined(module, branch)
        children = {name: self.grown(getattr(module, name), child) for name, child in branch.children.items()}
        grown = changed(module, _own(branch, self.adapters[0]), children)
        if branch.role is not None:
            grown.__dict__["states"] = self.states
        if "forward" in grown.__dict__:  # it computes in fp32, and is bound to the template's own tensors
            grown.__dict__["forward"] = in_float32(_forward(grown))
        return grown

    def _joined(self, module: nn.Module, branch: Branch) -> nn.Module:
        each = [_forward(changed(module, _own(branch, tensors), {})) for tensors in self.adapters]
        rows = self.rows

        def forward(x: Tensor) -> Tensor:
            repeated, rest = divmod(len(x), sum(rows))  # in place, as choices are
            if rest:
                raise RuntimeError(f"a head's module was given {len(x)} rows, expected {sum(rows)} or a multiple")
            parts = torch.split(x, [repeated * count for count in rows])
            return torch.cat([run(part) for run, part in zip(each, parts, strict=True)])

        grown = changed(module, {}, {})
        grown.__dict__["forward"] = in_float32(forward) if "forward" in module.__dict__ else forward
        return grown


def _own(branch: Branch, tensors: Tensors) -> dict[str, Tensor]:
    return {name: tensors[path] for name, path in branch.parameters.items()}


def _forward(module: Any) -> Callable[..., Any]:
    """The forward of a module's class."""
    found: Callable[..., Any] = type(module).forward.__get__(module)
    return found
