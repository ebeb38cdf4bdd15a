"""What a trunk was before a method was attached, and the way back."""

from collections.abc import Mapping

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from adapterkit.backbone.module_tables import pre_hooks
from adapterkit.methods.bottleneck.tap import Tap
from adapterkit.methods.lora.moved_weight import MovedWeight


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
