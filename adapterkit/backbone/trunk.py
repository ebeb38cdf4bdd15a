"""Views of a trunk that share its modules, and copies of its modules that share its memory."""

import copy
from typing import Any

from torch import Tensor, nn
from transformers.utils.output_capturing import maybe_install_capturing_hooks

from adapterkit.backbone.module_tables import with_own_tables
from adapterkit.backbone.pretrained import is_model

_HOOKED = "_output_capturing_hooks_installed"
_VIEWED = "adapterkit_viewed"


def twin_of(trunk: nn.Module) -> nn.Module:
    """Modules and parameters of one's own over the very memory of the trunk's. What is attached to the one, or put in
    the place of one of its weights, is not seen by the other."""
    same: dict[int, Any] = {}
    for module in trunk.modules():
        plain = [value for value in vars(module).values() if isinstance(value, Tensor)]
        same.update({id(tensor): tensor for tensor in [*plain, *module.buffers(recurse=False)]})
    for parameter in trunk.parameters():
        # Nothing ever stands in the place of a weight in eight or four bits, which keeps its state in the object.
        is_plain = type(parameter) is nn.Parameter and type(parameter.data) is Tensor
        same[id(parameter)] = nn.Parameter(parameter.data, parameter.requires_grad) if is_plain else parameter
    return copy.deepcopy(trunk, same)


def without_pooler(trunk: nn.Module) -> nn.Module:
    """A view of the trunk, of its class, that shares every child with it but has no pooler. Modules that are attached
    inside the layers are seen by both."""
    view = shallow(trunk)
    if getattr(view, "pooler", None) is not None:
        view.register_module("pooler", None)
    return view


def shallow(module: nn.Module) -> nn.Module:
    """A view of a module, of its class, that shares every child and every tensor, in tables of its own: a child that is
    replaced in the view, or a hook that is put on it, leaves the module as it is."""
    view = with_own_tables(module)
    if is_model(module):
        view.__dict__.pop(_HOOKED, None)
        view.__dict__[_VIEWED] = (module,)  # in a tuple, so that it does not become a child
        view.__class__ = _view_class(type(module))
    return view


def _view_class(kind: type[nn.Module]) -> type[nn.Module]:
    """The trunk's class, with the trunk itself hooked where its layers are to hand out their states.

    transformers hooks the layers at the first call that wants hidden states, and notes so on the model that was
    called. The layers are shared here: were the view hooked for itself, they would be hooked twice and each state
    would be handed out twice. The class keeps its name, under which transformers looks up what there is to hook.
    """

    def hooked(self: Any) -> bool:
        maybe_install_capturing_hooks(self.__dict__[_VIEWED][0])
        return True

    def note(self: Any, value: bool) -> None:
        setattr(self.__dict__[_VIEWED][0], _HOOKED, value)

    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), {**names, _HOOKED: property(hooked, note)})
