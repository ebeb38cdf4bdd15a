"""The fusion's layer: wraps the linear that emits a sublayer's output, and holds the frozen parts beside it.

Axes: … any leading axes (rows, tokens), N parts, D hidden width, Q query width.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from adapterkit.backbone.recognise import hidden_width
from adapterkit.backbone.sites import Sublayer
from adapterkit.methods.bottleneck.tap import Tap
from adapterkit.methods.carrier import Carrier
from adapterkit.methods.equations import bottleneck, bottleneck_input
from adapterkit.methods.layer import WrappingLayer
from adapterkit.recipe import BottleneckMethod, FusionMethod


class FrozenBottleneck(nn.Module):
    """f of one part at one sublayer. It never trains and has no dropout."""

    def __init__(self, settings: BottleneckMethod, tensors: Mapping[str, Tensor]) -> None:
        """Take over the tensors. `tensors`: ending ("bottleneck_down.weight", …) -> tensor."""
        super().__init__()
        width, hidden = tensors["bottleneck_down.weight"].shape
        self.activation = settings.activation
        self.down, self.up = nn.Linear(hidden, width), nn.Linear(width, hidden)
        for name, linear in (("down", self.down), ("up", self.up)):
            for kind in ("weight", "bias"):
                setattr(linear, kind, _frozen(tensors[f"bottleneck_{name}.{kind}"]))
        learned = tensors.get("bottleneck_scale")
        self.scale = settings.scale if learned is None else _frozen(learned)

    def forward(self, z: Tensor) -> Tensor:
        """f(z) (…, D)."""
        return bottleneck(z, self.down, self.up, self.activation, self.scale)


class FusionLayer(WrappingLayer):
    """h + (I + W_Δ) · Σ_n share_n · f_n(z), with share = softmax_n((W_Q · z + b_Q) · (W_K · f_n(z))).

    f_n are the parts' outputs, and z is what they read: LN(h + r) or h + r for pfeiffer, h for houlsby, r for parallel
    (see `BottleneckLayer`). So the query is the value that AdapterHub takes for each placement; keys and values are
    made of the parts' outputs (Pfeiffer et al. 2021, section 3, which reads the query off the sublayer's output;
    AdapterHub's `BertFusion` with `query_before_ln=False` and without a residual inside).

    Three spellings differ, and the function does not:
    - The value matrix is I + W_Δ. Paper and AdapterHub start the matrix at (almost) the identity and pull it there by a
      penalty on its distance; here W_Δ starts at zero and the optimizer's weight decay is that pull.
    - It stands behind the sum instead of before it, once instead of N times, since both are linear.
    - AdapterHub's bias of the keys moves all scores of a token alike, which the softmax ignores; there is none.

    W_Q and b_Q start at zero, where AdapterHub draws them from N(0, 0.02), so a fusion at birth adds exactly the mean
    of what its parts add. AdapterHub adds r twice where it fuses parallel bottlenecks; the paper and this do not.
    """

    adapter_layer_names: tuple[str, ...] = ("fusion_query", "fusion_key", "fusion_value")

    def __init__(
        self,
        base_layer: nn.Module,
        parts: Sequence[tuple[BottleneckMethod, Mapping[str, Tensor]]],
        *,
        query_width: int,
        value: bool,
        dropout: float,
        residual: tuple[str, nn.Module] | None,
        norm: nn.Module | None,
    ) -> None:
        """Wrap a linear, by settings and tensors of every part at this sublayer. `residual`: name and module whose
        first input is r; needed by pfeiffer and parallel. `norm`: the norm after adding; None where the model
        normalises before."""
        super().__init__(base_layer)
        hidden = hidden_width(base_layer)
        self.fusion_query = nn.Linear(hidden, query_width)
        self.fusion_key = nn.Linear(hidden, query_width, bias=False)
        nn.init.zeros_(self.fusion_query.weight)
        nn.init.zeros_(self.fusion_query.bias)
        self.fusion_value: nn.Linear | None = None
        if value:
            self.fusion_value = nn.Linear(hidden, hidden, bias=False)
            nn.init.zeros_(self.fusion_value.weight)
        self.score_dropout = nn.Dropout(dropout)
        self.placement = parts[0][0].placement
        self.parts = nn.ModuleList(FrozenBottleneck(settings, tensors) for settings, tensors in parts)
        self._tap = None if residual is None else Tap(residual[1], residual[0])
        # A module inside a tuple is not a child: the norm stays the model's own, saved and moved there only.
        self._norm = (norm,)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The sublayer's output h (…, D) with what the fusion adds to it, in h's dtype."""
        residual = self._tap.take() if self._tap is not None else None
        h: Tensor = self.base_layer(x, *args, **kwargs)
        z = bottleneck_input(self.placement, h, residual, self._norm[0]).to(self.fusion_key.weight.dtype)
        added_ND = torch.stack([part(z) for part in self.parts], dim=-2)
        return h + self.mixed(z, added_ND).to(h.dtype)

    def mixed(self, z: Tensor, added_ND: Tensor) -> Tensor:
        """What the fusion (…, D) makes of what its parts add (…, N, D), having read z (…, D)."""
        # A query meets all keys of its token through W_Kᵀ: one product instead of one for every part.
        query_D = self.fusion_query(z) @ self.fusion_key.weight
        scores_N = self.score_dropout((added_ND @ query_D.unsqueeze(-1)).squeeze(-1))
        share_N = torch.softmax(scores_N, dim=-1).to(added_ND.dtype)
        mean = (share_N.unsqueeze(-2) @ added_ND).squeeze(-2)
        return mean if self.fusion_value is None else mean + self.fusion_value(mean)


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach().clone(), requires_grad=False)


def fusion_layers(
    carrier: Carrier, targets: Mapping[str, Sublayer], settings: FusionMethod
) -> tuple[dict[str, FusionLayer], dict[str, Any]]:
    """Replace the linears at the targets, sublayers by path in the model, by fusion layers. Returns these by path, and
    what `adapter_config.json` says of them."""
    parts, module = carrier.parts, carrier.model.get_submodule
    placement = parts[0].settings.placement
    residuals, norms = carrier.reach.read_modules(targets, placement)
    paths = {id(sublayer): path for path, sublayer in targets.items()}
    width = settings.query_width or carrier.backbone.contract.hidden_size

    def make(linear: nn.Module, sublayer: Sublayer) -> FusionLayer:
        path = paths[id(sublayer)]
        return FusionLayer(
            linear,
            [(part.settings, part.tensors[sublayer.output]) for part in parts],
            query_width=width,
            value=settings.value,
            dropout=settings.dropout,
            residual=(residuals[path], module(residuals[path])) if path in residuals else None,
            norm=module(norms[path]) if path in norms else None,
        )

    layers = carrier.wrap(targets, make)
    content = {
        "target_modules": sorted(targets),
        "residual_modules": dict(sorted(residuals.items())),
        "norm_modules": dict(sorted(norms.items())),
        "placement": placement,
        "query_width": width,
        "value": settings.value,
        "dropout": settings.dropout,
        "inference_mode": True,
    }
    return layers, content
