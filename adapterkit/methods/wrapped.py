"""Modules in which PEFT has put an adapter, told without importing PEFT: until somebody does, there is none."""

import sys
from typing import Any

from torch import nn


def is_wrapped(module: nn.Module) -> bool:
    """Whether a module holds an adapter that stands around, or in the place of, one of the backbone's."""
    if "peft" not in sys.modules:
        return False
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(module, BaseTunerLayer)


def bare(module: nn.Module) -> nn.Module:
    """The backbone's own module, without what is around it."""
    wrapper: Any = module
    return wrapper.get_base_layer() if is_wrapped(module) else module
