"""Where an adapter's computation is cut: below, all depends on the text alone; above, something learns, from
states that are kept.

Axes: B rows (of several choices: one for each choice), T tokens, D hidden width.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adapterkit.adapted import Adapted
from adapterkit.backbone import Side
from adapterkit.backbone.cut import above, below, layers_of
from adapterkit.errors import SiteError
from adapterkit.heads.own import OwnModel
from adapterkit.heads.pooling import FixedPooling
from adapterkit.heads.unpadded import UnpaddedHeaded
from adapterkit.training.trunk_cache.keys import flat_inputs, keys_of
from adapterkit.training.trunk_cache.store import MISSING, StateStore

Inputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class Cut:
    """A cut between two layers, above the last one, or above a pooling that learns nothing."""

    layer: int
    """The layer that the states enter; the number of layers for all of them."""
    pooling: str
    """How a row's states become one vector below the cut, or "" where they stay as they are."""
    lower: Callable[[Inputs], Tensor]
    """What to keep of rows without padding on the left: (B, T, D), with T = 1 where it is pooled."""
    upper: Callable[[Inputs, Tensor, Tensor | None], Tensor]
    """Logits from the inputs of a batch, what was kept of its rows (B, T, D), and where alone, (B, T) or None."""


class NoCutError(Exception):
    """There is nothing to keep, and why."""


def cut_of(adapted: Adapted) -> Cut:
    """The highest cut below everything that learns. Raises NoCutError: there is none."""
    if adapted.task.draws_anew:
        raise NoCutError(f"{adapted.task.kind} draws new masks in every epoch, so that no text is read twice")
    module, lowest = adapted.module, adapted.attachment.lowest_layer
    try:
        path, layers = layers_of(module)
    except SiteError as error:
        named = adapted.backbone.contract.architecture
        raise NoCutError(f"{named} holds no list of layers that could run apart") from error
    count = len(layers)
    if not lowest and isinstance(module, OwnModel) and module.pools:
        fixed = [inner for inner in module.modules() if isinstance(inner, FixedPooling)]
        if fixed:
            return Cut(
                count,
                fixed[0].pooling,
                lambda inputs: module.vectors(dict(inputs)).unsqueeze(1),
                lambda inputs, kept_BTD, _: module.answer(kept_BTD[:, 0], dict(inputs)),
            )
    if not lowest:
        return _between_layers(adapted, count)
    encoder_decoder = adapted.backbone.is_encoder_decoder
    side: Side = "encoder" if encoder_decoder or not adapted.backbone.is_decoder else "decoder"
    # Above an encoder that is not adapted, its whole decoder may be.
    layer = lowest.get(side, count)
    if adapted.backbone.sites.layer_count[side] != count:
        raise NoCutError(f"its layers are not one list: {path} holds {count} of them")
    if layer < 1:
        raise NoCutError("the lowest adapted layer is the first one, so that nothing lies below it")
    return _between_layers(adapted, layer)


def _between_layers(adapted: Adapted, layer: int) -> Cut:
    headed = adapted.headed
    half = replace(headed, module=above(headed.module, layer))
    upper = UnpaddedHeaded(half, adapted.task.kind, encoder_decoder=adapted.backbone.is_encoder_decoder)
    lower = below(headed.module, layer)
    return Cut(
        layer,
        "",
        lambda inputs: lower(**inputs),
        lambda inputs, kept_BTD, at_BT: upper.logits(dict(inputs), at_BT, states_BTD=kept_BTD),
    )


def answers_alike(found: Tensor, expected: Tensor) -> bool:
    """Whether two answers to one batch differ by no more than the order of a sum explains."""
    tolerance = 64 * torch.finfo(expected.dtype).eps * max(1.0, float(expected.detach().abs().max()))
    return bool(torch.allclose(found, expected, rtol=0.0, atol=tolerance))


class Shortcut:
    """Answers batches from a store; rows that it lacks are computed, and not kept."""

    def __init__(self, cut: Cut, store: StateStore, device: torch.device) -> None:
        self.cut, self.store = cut, store
        self._device = device

    def __call__(self, inputs: dict[str, Tensor], at_BT: Tensor | None = None) -> Tensor | None:
        """The logits of a batch, at `at_BT` alone where it is given.

        None where no row of it is kept, so that the whole trunk may as well run.
        """
        flat = flat_inputs(inputs)
        keyed = keys_of(flat)
        if keyed is None:
            return None
        rows = self.store.find(keyed.keys)
        if all(row == MISSING for row in rows):
            return None
        tokens = 1 if self.cut.pooling else flat["input_ids"].shape[1]
        gathered_BTD, missing = self.store.gather(rows, tokens)
        kept_BTD = gathered_BTD.to(self._device)
        if missing:
            with torch.no_grad():
                kept_BTD[missing] = self.cut.lower({name: value[missing] for name, value in flat.items()})
        return self.cut.upper(inputs, kept_BTD, at_BT)


def share_states(adapters: Sequence[Adapted], another: Adapted) -> None:
    """Let another adapter answer from the states that adapters with the same cut answer from, if all of them do."""
    shortcuts = [adapted.shortcut for adapted in adapters if isinstance(adapted.shortcut, Shortcut)]
    with suppress(NoCutError):
        if len(shortcuts) == len(adapters):
            store = shortcuts[-1].store  # opened last, so that it holds what the others have added
            another.shortcut = Shortcut(cut_of(another), store, another.backbone.device)
