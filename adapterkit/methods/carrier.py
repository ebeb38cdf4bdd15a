"""The model that a method is attached to, what its trunk was before, and the way back."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from peft.functional import inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from adapterkit.backbone import Backbone
from adapterkit.backbone.module_tables import pre_hooks
from adapterkit.backbone.sites import P
from adapterkit.methods.adapter_name import ADAPTER
from adapterkit.methods.bottleneck.tap import Tap
from adapterkit.methods.fusion.part import Part
from adapterkit.methods.lora.moved_weight import MovedWeight
from adapterkit.methods.reach import Reach

L = TypeVar("L", bound=nn.Module)


class Before:
    """Modules, bytes and flags of a trunk, so that nothing is left of a method."""

    def __init__(self, model: nn.Module, trunk: nn.Module) -> None:
        """Note what is there. `model`: holds modules of the trunk and possibly a head; nothing of it is adapted yet."""
        self._model = model
        self._trunk = {id(parameter) for parameter in trunk.parameters()}
        self._flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        self._biases: list[tuple[nn.Parameter, Tensor]] = []
        self.moved: MovedWeight | None = None

    def train_only(self, biases: Mapping[str, nn.Parameter]) -> None:
        """Freeze the trunk but for these biases; the rest of the model, which PEFT froze too, gets its flags back."""
        for parameter, flag in self._flags:
            parameter.requires_grad_(flag and id(parameter) not in self._trunk)
        for bias in biases.values():
            self._biases.append((bias, bias.data))
            bias.data = bias.data.clone()  # the backbone's own stays as it is, for whoever else reads it
            bias.requires_grad_(True)

    def restore(self) -> None:
        """Put everything of the trunk back as it was, bit for bit. Doing it again changes nothing."""
        for path, layer in list(self._model.named_modules()):
            # By the hooks and not by the layers: one that was never put in its place has its tap already.
            for hook in pre_hooks(layer):
                if isinstance(hook, Tap):
                    hook.remove()
            if isinstance(layer, BaseTunerLayer):
                parent, _, name = path.rpartition(".")
                setattr(self._model.get_submodule(parent), name, layer.base_layer)
        vars(self._model).pop("peft_config", None)
        if self.moved is not None:
            self.moved.undo()
            self.moved = None
        for bias, value in self._biases:
            bias.data, bias.grad = value, None
        for parameter, flag in self._flags:
            if id(parameter) in self._trunk:
                parameter.requires_grad_(flag)
        self._biases, self._flags = [], []


@dataclass(frozen=True)
class Carrier:
    """A model that carries a method, and how the method shall begin. The model holds modules of the backbone's trunk,
    the very objects, and possibly a head. Seed of the initialisation, dtype of the method's tensors, parts of a fusion.
    """

    model: nn.Module
    backbone: Backbone
    seed: int
    dtype: torch.dtype = torch.float32
    parts: Sequence[Part] = ()

    @cached_property
    def reach(self) -> Reach:
        """Which of the trunk's modules the model holds. Raises SiteError where it carries a method already."""
        return Reach(self.model, self.backbone.trunk)

    @contextmanager
    def attaching(self) -> Iterator[Before]:
        """Inside, all of it is attached or nothing."""
        before = Before(self.model, self.backbone.trunk)
        try:
            yield before
        except BaseException:
            before.restore()
            raise

    @contextmanager
    def seeded(self) -> Iterator[None]:
        """Inside, numbers are drawn from the seed; the global random generators stay as they were."""
        device = self.backbone.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            yield

    def inject(self, config: Any) -> None:
        """Let PEFT put its layers into the model, in eval mode."""
        with self.seeded():
            inject_adapter_in_model(config, self.model, adapter_name=ADAPTER)
        for layer in self.model.modules():
            if isinstance(layer, BaseTunerLayer):
                self._settle(layer)

    def wrap(self, targets: Mapping[str, P], make: Callable[[nn.Module, P], L]) -> dict[str, L]:
        """Put layers of one's own around modules of the model, in eval mode. Returns them by path. `targets`: sites or
        sublayers by path in the model. `make`: wraps the module at a target, in a `methods.layer.WrappingLayer`."""
        layers = {}
        with self.seeded():
            for path, target in targets.items():
                parent, _, name = path.rpartition(".")
                layers[path] = make(self.model.get_submodule(path), target)
                setattr(self.model.get_submodule(parent), name, layers[path])
                self._settle(layers[path])
        return layers

    def _settle(self, layer: Any) -> None:
        """Give what is the method's own its dtype and device."""
        device = next((tensor.device for tensor in layer.base_layer.parameters()), self.backbone.device)
        for parameter in layer.parameters(recurse=False):
            parameter.data = parameter.data.to(device, self.dtype)
        for module in own_modules(layer):
            module.to(device, self.dtype).eval()


def own_modules(layer: Any) -> list[nn.Module]:
    """The modules of a layer without the module that it wraps."""
    return [child for name, child in layer.named_children() if name != "base_layer"]
