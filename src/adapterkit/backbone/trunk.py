"""Views of a trunk that share its modules."""

from __future__ import annotations

import copy

from torch import nn


def without_pooler(trunk: nn.Module) -> nn.Module:
    """A shallow view of the trunk that shares every child with it but has no pooler.

    For trunks without a pooler the view simply equals the trunk. The trunk itself stays as it is, and modules that
    are attached inside the layers are seen by both.
    """
    view = copy.copy(trunk)
    for table in ("_modules", "_parameters", "_buffers", "_forward_hooks", "_forward_pre_hooks"):
        view.__dict__[table] = copy.copy(trunk.__dict__[table])
    if "pooler" in view._modules:
        view._modules["pooler"] = None
    return view
