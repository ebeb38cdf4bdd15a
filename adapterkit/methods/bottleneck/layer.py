"""The bottleneck's layer: wraps the linear, or the norm behind it, that emits a sublayer's output.

Axes: … any leading axes (rows, tokens), D hidden width, M bottleneck width.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from adapterkit.backbone.recognise import hidden_width
from adapterkit.errors import MergeError, SiteError
from adapterkit.methods.bottleneck.config import BottleneckConfig
from adapterkit.methods.bottleneck.tap import Tap
from adapterkit.methods.equations import ACTIVATIONS, bottleneck, bottleneck_input
from adapterkit.methods.fused.bottleneck import BottleneckTensors, add_bottleneck
from adapterkit.methods.fused.frozen import product_dtype
from adapterkit.methods.layer import WrappingLayer

BASE_ROW = "__base__"  # PEFT's name for "no adapter" in a mixed batch


class BottleneckLayer(WrappingLayer):
    """h + f(z), with f(z) = scale · (W_up · act(W_down · z + b_down) + b_up) and dropout on f.

    h is what the wrapped module gives, r the residual that the model adds afterwards, LN its norm after adding
    (Houlsby et al. 2019, Pfeiffer et al. 2021, He et al. 2022; equations as in AdapterHub):

    | placement | z, norm after | z, norm before |
    |---|---|---|
    | houlsby | h | h |
    | pfeiffer | LN(h + r) | h + r |
    | parallel | r | r |

    W_up and b_up are zero at birth, so an untrained adapter changes nothing. W_down is Kaiming-uniform with a = √5 and
    b_down zero, as in the official code of He et al. (`init_option="lora"`).
    """

    # See `WrappingLayer`.
    active_adapters: Any
    set_adapter: Any
    _move_adapter_to_device_of_base_layer: Any

    adapter_layer_names: tuple[str, ...] = ("bottleneck_down", "bottleneck_up", "bottleneck_scale")
    other_param_names: tuple[str, ...] = ("configs", "dropouts", "norms")

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: BottleneckConfig, **beside: Any) -> None:
        """Wrap a linear or a norm; `beside` it stand what `update_layer` takes."""
        super().__init__(base_layer)
        self.bottleneck_down = nn.ModuleDict()
        self.bottleneck_up = nn.ModuleDict()
        self.bottleneck_scale = nn.ParameterDict()
        self.dropouts = nn.ModuleDict()
        self.configs: dict[str, BottleneckConfig] = {}
        self.fused = False
        self._active_adapter = adapter_name
        self._tap: Tap | None = None
        # A module inside a dict is not a child: the norm stays the model's own, saved and moved there only.
        self.norms: dict[str, nn.Module | None] = {}
        self.update_layer(adapter_name, config, **beside)

    def update_layer(
        self,
        adapter_name: str,
        config: BottleneckConfig,
        *,
        residual: tuple[str, nn.Module] | None = None,
        norm: nn.Module | None = None,
    ) -> None:
        """Add an adapter to this module. `residual`: name and module whose first input is r; needed by pfeiffer and
        parallel. `norm`: the norm after adding; None where the model normalises before.
        Raises SiteError: the placement needs a residual and there is none, or another adapter here has another one."""
        if config.placement != "houlsby":
            if residual is None:
                raise SiteError(f"placement {config.placement} needs the residual of every sublayer")
            if self._tap is None:
                self._tap = Tap(residual[1], residual[0])
            elif self._tap.name != residual[0]:
                told = [f"residual: found {residual[0]}, expected {self._tap.name}"]
                raise SiteError("two adapters of one module disagree about its residual", told)
        width = hidden_width(self.get_base_layer())
        down, up = nn.Linear(width, config.width), nn.Linear(config.width, width)
        nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
        for zero in (down.bias, up.weight, up.bias):
            nn.init.zeros_(zero)
        self.bottleneck_down[adapter_name] = down
        self.bottleneck_up[adapter_name] = up
        if config.scale_learned:
            self.bottleneck_scale[adapter_name] = nn.Parameter(torch.full((1,), float(config.scale)))
        self.dropouts[adapter_name] = nn.Dropout(config.dropout)
        self.configs[adapter_name] = config
        self.norms[adapter_name] = norm
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, x: Tensor, *args: Any, adapter_names: list[str] | None = None, **kwargs: Any) -> Tensor:
        """The sublayer's output h (…, D) with what the active adapters add to it, in h's dtype.
        `adapter_names`: one adapter for each row, "__base__" for none, instead of the active ones."""
        # Taken even where no adapter is active, so that no call sees the residual of another.
        residual = self._tap.take() if self._tap is not None else None
        h: Tensor = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters:
            return h
        if adapter_names is not None:
            return self._mixed(h, residual, adapter_names)
        result = h
        for name in self.active_adapters:
            if name in self.bottleneck_down:
                z = self._z(name, h, residual)
                fits = result is h and self._fits(name, h)
                result = add_bottleneck(h, z, self._tensors(name)) if fits else result + self._f(name, z, h.dtype)
        return result

    def _fits(self, name: str, h: Tensor) -> bool:
        """Whether the fused function can compute f: with gradients, and with h in the format of the products."""
        down: Any = self.bottleneck_down[name]
        return (
            self.fused
            and torch.is_grad_enabled()
            and h.dtype == product_dtype(h, down.weight)
            and not torch.compiler.is_compiling()
        )

    def _tensors(self, name: str) -> BottleneckTensors:
        config = self.configs[name]
        down: Any = self.bottleneck_down[name]
        up: Any = self.bottleneck_up[name]
        return BottleneckTensors(
            down.weight,
            down.bias,
            up.weight,
            up.bias,
            self._scale(name),
            ACTIVATIONS[config.activation],
            config.dropout if self.dropouts[name].training else 0.0,
        )

    def _scale(self, name: str) -> Tensor | float:
        config = self.configs[name]
        scale: Tensor | float = self.bottleneck_scale[name] if config.scale_learned else config.scale
        return scale

    def _z(self, name: str, h: Tensor, residual: Tensor | None) -> Tensor:
        return bottleneck_input(self.configs[name].placement, h, residual, self.norms[name])

    def _f(self, name: str, z: Tensor, dtype: torch.dtype) -> Tensor:
        config = self.configs[name]
        f = bottleneck(z, self.bottleneck_down[name], self.bottleneck_up[name], config.activation, self._scale(name))
        result: Tensor = self.dropouts[name](f).to(dtype)
        return result

    def _mixed(self, h: Tensor, residual: Tensor | None, adapter_names: list[str]) -> Tensor:
        if len(adapter_names) != len(h):
            raise ValueError(f"{len(adapter_names)} adapter names for {len(h)} rows")
        result = h.clone()
        for name in sorted(set(adapter_names) & set(self.bottleneck_down)):
            rows = torch.tensor([i for i, other in enumerate(adapter_names) if other == name], device=h.device)
            own_residual = residual[rows] if residual is not None else None
            result[rows] = h[rows] + self._f(name, self._z(name, h[rows], own_residual), h.dtype)
        return result

    def delete_adapter(self, adapter_name: str) -> None:
        """Remove an adapter, and the tap when nothing needs it any more."""
        super().delete_adapter(adapter_name)
        if all(config.placement == "houlsby" for config in self.configs.values()):
            self.release()

    def release(self) -> None:
        """Leave the module that r is read from as it was."""
        if self._tap is not None:
            self._tap.remove()
            self._tap = None

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refused. Raises MergeError: always."""
        refuse_merge()

    def unmerge(self) -> None:
        """Nothing is ever merged."""

    def __repr__(self) -> str:
        return "bottleneck." + super().__repr__()


def refuse_merge() -> None:
    """Say why a bottleneck cannot be merged. Raises MergeError: always."""
    told = ["an activation stands between its two projections, so no weight of the backbone can hold it"]
    raise MergeError(
        "a bottleneck adapter cannot be merged", told, "Keep it attached, or train LoRA where a merged model is needed."
    )
