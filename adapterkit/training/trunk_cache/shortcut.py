"""From a batch straight to its logits, over states that are kept.

Axes: B rows (of several choices: one for each choice), T tokens, D hidden width.
"""

from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor

from adapterkit.adapted import Adapted
from adapterkit.training.trunk_cache.cut import Cut, NoCutError, cut_of
from adapterkit.training.trunk_cache.keys import flat_inputs, keys_of
from adapterkit.training.trunk_cache.store import MISSING, StateStore


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
