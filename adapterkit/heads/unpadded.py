"""Logits of a batch, by way of its tokens alone where much of it is padding.

Axes: B rows, T tokens, K choices, C classes, V vocabulary.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from adapterkit.backbone.cut import entering
from adapterkit.backbone.packed_rows import PackedLayout, Run, runs_of
from adapterkit.backbone.unpadded import find_reading_layers, unpadded_view
from adapterkit.heads.headed import Headed, answering_at, logits_of
from adapterkit.heads.lanes import NoLanesError
from adapterkit.heads.row_ends import telling_ends
from adapterkit.recipe.kinds import FACTS

MOST_PLACES = 0.9
"""Share of a batch's places that may be left for the detour to pay: it costs about as much as a tenth of a small trunk,
and a batch of rows of one length is never made to take it."""


class UnpaddedHeaded:
    """Answers as `Headed.logits`, up to the order of additions. Logits of padding are zero where it was left out."""

    def __init__(self, headed: Headed, kind: str, *, encoder_decoder: bool) -> None:
        self._headed = headed
        self._reading = find_reading_layers(headed.module)
        # A head that looks at each token by itself can leave the padding out too; that of an encoder-decoder may follow
        # its decoder, which reads whole rows of the encoder's states.
        self._states_padded = encoder_decoder or not FACTS[kind].token_by_token

    def logits(
        self, inputs: dict[str, Tensor], at_BT: Tensor | None = None, *, states_BTD: Tensor | None = None
    ) -> Tensor:
        """Answer a batch; see `Headed.logits`. `position_ids` that begin again in a row separate the documents in it:
        none sees another, whatever the trunk. `at_BT`: of a language model, whether to answer at a token, for (N, V)
        logits in their order; everywhere where it is None. `states_BTD`: where the model is the upper part of a split
        one, what enters it."""
        several = "position_ids" in inputs
        runs = runs_of(inputs) if "attention_mask" in inputs else None
        if runs is None or not any(length for _, length in runs):
            return self._padded(inputs, at_BT, states_BTD)
        shape = inputs["input_ids"].flatten(0, -2).shape
        lanes = self._headed.lanes
        if not several and (self._reading is None or not self._pays(runs, shape, inputs["input_ids"].device)):
            return self._padded(inputs, at_BT, states_BTD)
        if self._reading is None:
            if lanes is not None:
                raise NoLanesError("documents that share rows, in a trunk that cannot leave padding out")
            return self._apart(inputs, runs, at_BT)
        rows = None if lanes is None else lanes.rows
        layout = PackedLayout.of(runs, (shape[0], shape[1]), inputs["input_ids"].device, lanes=rows)
        if lanes is not None:
            lanes.places = layout.lanes
        model = unpadded_view(self._headed.module, self._reading, layout, states_padded=self._states_padded)
        places_N = None
        if at_BT is not None:
            places_N = _places(at_BT) if self._states_padded else layout.places(at_BT)
        entered = self._entered(None if states_BTD is None else layout.packed(states_BTD))
        told = telling_ends(model, self._headed.ends, inputs)
        with entered, told as given, answering_at(model, places_N) as picked:
            logits = picked(logits_of(model(**given)))
        return logits if self._states_padded or at_BT is not None else layout.padded(logits)

    def _pays(self, runs: Sequence[Run], shape: torch.Size, device: torch.device) -> bool:
        """Whether there is enough padding to leave out. On a GPU lanes of one width, padding and all, save more."""
        if self._headed.lanes is not None and device.type != "cpu":
            return False
        return sum(length for _, length in runs) <= MOST_PLACES * shape.numel()

    def _padded(self, inputs: dict[str, Tensor], at_BT: Tensor | None, states_BTD: Tensor | None) -> Tensor:
        with self._entered(states_BTD):
            return self._headed.logits(inputs, None if at_BT is None else _places(at_BT))

    def _entered(self, states: Tensor | None) -> AbstractContextManager[None]:
        return nullcontext() if states is None else entering(self._headed.module, states)

    def _apart(self, inputs: dict[str, Tensor], runs: Sequence[Run], at_BT: Tensor | None) -> Tensor:
        """Every document as a row of its own, for trunks that can do no better."""
        rows, tokens = inputs["input_ids"].shape
        layout = PackedLayout.of(runs, (rows, tokens), inputs["input_ids"].device, spare=rows * tokens * tokens)
        (group,) = layout.rows.groups
        size = (group.rows, group.tokens)
        apart = {name: layout.packed(value).reshape(size) for name, value in inputs.items()}
        apart["position_ids"] = layout.positions.reshape(size)
        if group.seen is not None:
            apart["attention_mask"] = group.seen.to(inputs["attention_mask"].dtype)
        if at_BT is not None:
            return self._headed.logits(apart, layout.places(at_BT))
        return layout.padded(torch.flatten(self._headed.logits(apart), 0, 1)[None])


def _places(at_BT: Tensor) -> Tensor:
    return at_BT.flatten().nonzero()[:, 0]
