"""Where an adapter's computation is cut: below, all depends on the text alone; above, something learns.

Axes: B rows (of several choices: one for each choice), T tokens, D hidden width.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from adapterkit.adapted import Adapted
from adapterkit.backbone import Side
from adapterkit.backbone.cut import above, below, layers_of
from adapterkit.errors import SiteError
from adapterkit.heads.own import OwnModel
from adapterkit.heads.pooling import FixedPooling
from adapterkit.heads.unpadded import UnpaddedHeaded

Inputs = Mapping[str, Tensor]


class Cut(Protocol):
    """A cut."""

    layer: int
    """The layer that the states enter; the number of layers for all of them."""
    pooling: str
    """How a row's states become one vector below the cut, or "" where they stay as they are."""

    def lower(self, inputs: Inputs) -> Tensor:
        """What to keep of rows without padding on the left: (B, T, D), with T = 1 where it is pooled."""

    def upper(self, inputs: Inputs, kept_BTD: Tensor, at_BT: Tensor | None = None) -> Tensor:
        """Logits from what was kept of the rows of a batch; of a language model, at `at_BT` alone."""


class LayerCut:
    """Between two layers, or above the last one."""

    pooling = ""

    def __init__(self, adapted: Adapted, layer: int) -> None:
        self.layer = layer
        headed = adapted.headed
        upper = replace(headed, module=above(headed.module, layer))
        encoder_decoder = adapted.backbone.is_encoder_decoder
        self._lower = below(headed.module, layer)
        self._upper = UnpaddedHeaded(upper, adapted.task.kind, encoder_decoder=encoder_decoder)

    def lower(self, inputs: Inputs) -> Tensor:
        """See `Cut.lower`."""
        states_BTD: Tensor = self._lower(**inputs)
        return states_BTD

    def upper(self, inputs: Inputs, kept_BTD: Tensor, at_BT: Tensor | None = None) -> Tensor:
        """See `Cut.upper`."""
        return self._upper.logits(dict(inputs), at_BT, states_BTD=kept_BTD)


class PoolingCut:
    """Above a pooling that learns nothing."""

    def __init__(self, model: OwnModel, layer: int, pooling: str) -> None:
        self.layer, self.pooling = layer, pooling
        self._model = model

    def lower(self, inputs: Inputs) -> Tensor:
        """See `Cut.lower`."""
        return self._model.vectors(dict(inputs)).unsqueeze(1)

    def upper(self, inputs: Inputs, kept_BTD: Tensor, at_BT: Tensor | None = None) -> Tensor:
        """See `Cut.upper`."""
        return self._model.answer(kept_BTD[:, 0], dict(inputs))


@dataclass(frozen=True)
class NoCut:
    """There is nothing to keep, and why."""

    reason: str


def cut_of(adapted: Adapted) -> Cut | NoCut:
    """The highest cut below everything that learns."""
    if adapted.task.draws_anew:
        return NoCut(f"{adapted.task.kind} draws new masks in every epoch, so that no text is read twice")
    module, lowest = adapted.module, adapted.attachment.lowest_layer
    try:
        path, layers = layers_of(module)
    except SiteError:
        return NoCut(f"{adapted.backbone.contract.architecture} holds no list of layers that could run apart")
    count = len(layers)
    pooling = "" if lowest else _fixed_pooling(module)
    if pooling and isinstance(module, OwnModel):
        return PoolingCut(module, count, pooling)
    if not lowest:
        return LayerCut(adapted, count)
    encoder_decoder = adapted.backbone.is_encoder_decoder
    side: Side = "encoder" if encoder_decoder or not adapted.backbone.is_decoder else "decoder"
    # Above an encoder that is not adapted, its whole decoder may be.
    layer = lowest.get(side, count)
    if adapted.backbone.sites.layer_count[side] != count:
        return NoCut(f"its layers are not one list: {path} holds {count} of them")
    if layer < 1:
        return NoCut("the lowest adapted layer is the first one, so that nothing lies below it")
    return LayerCut(adapted, layer)


def _fixed_pooling(module: nn.Module) -> str:
    """How an own head pools, where that does not learn; "" elsewhere."""
    if not isinstance(module, OwnModel) or not module.pools:
        return ""
    found = [inner for inner in module.modules() if isinstance(inner, FixedPooling)]
    return found[0].pooling if found else ""


def answers_alike(found: Tensor, expected: Tensor) -> bool:
    """Whether two answers to one batch differ by no more than the order of a sum explains."""
    tolerance = 64 * torch.finfo(expected.dtype).eps * max(1.0, float(expected.detach().abs().max()))
    return bool(torch.allclose(found, expected, rtol=0.0, atol=tolerance))
