"""The rows of a call whose answers are computed and not generated: batches of many adapters, and what they give."""

from collections.abc import Sequence

import torch

from adapterkit.data import group_by_length
from adapterkit.errors import AdapterkitError
from adapterkit.host.answers.asked_rows import Call, HeadRows, collate
from adapterkit.host.answers.batching import Forwards, Piece
from adapterkit.host.bank.residency import Bank, Loaded
from adapterkit.tasks.finite import without_lost
from adapterkit.tasks.protocol import Vocabulary

Batched = dict[HeadRows, list[int]]
"""The features that a batch reads, by group."""


class Computing:
    """Answers groups of a host that do not generate. Holds nothing of a call."""

    def __init__(self, forwards: Forwards, bank: Bank, vocabulary: Vocabulary, device: torch.device) -> None:
        self._forwards, self._bank, self._vocabulary, self._device = forwards, bank, vocabulary, device

    def fill(self, call: Call, *, batch_size: int) -> None:
        """Fill in what tasks make of the logits of every row.
        Raises NotFiniteError: rows of which logits are not finite, in a call that raises errors; AdapterkitError: an
        adapter cannot come back from where it waits, in a call that raises errors."""
        asked = [(group, index) for group in call.groups if not group.generates for index in range(len(group.features))]
        lengths = [group.features[index].length_tokens for group, index in asked]
        batches: list[Batched] = []
        for chosen in group_by_length(lengths, batch_size=batch_size, shuffle=False):
            batches.append({})
            for group, index in (asked[place] for place in sorted(chosen)):
                batches[-1].setdefault(group, []).append(index)
        lost: dict[int, str] = {}
        for number, batch in enumerate(batches):
            taken = self._take({group: indices for group, indices in batch.items() if group not in call.failed}, call)
            if number + 1 < len(batches):
                self._bank.prefetch(dict.fromkeys(group.mounted.seat for group in batches[number + 1]))
            if taken:
                lost |= self._compute({group: batch[group] for group in taken}, list(taken.values()))
        call.lose(lost)

    def _compute(self, batch: Batched, loaded: Sequence[Loaded]) -> dict[int, str]:
        """Fill in a batch. Returns the rows whose logits are not finite, by place, with whom they asked."""
        lost: dict[int, str] = {}
        collated = collate(batch, self._vocabulary)
        pieces = [
            Piece(held.carried, held.heads[group.name], own.inputs)
            for group, held, own in zip(batch, loaded, collated, strict=True)
        ]
        with torch.inference_mode():
            computed = self._forwards.logits(pieces)
            for (group, indices), own, logits in zip(batch.items(), collated, computed, strict=True):
                at = own.to(self._device)
                finite, places = without_lost(logits, at)
                lost |= {group.places[group.features[indices[each]].row]: group.mounted.name for each in places}
                for index, output in zip(indices, group.head.task.outputs(finite, at), strict=True):
                    group.outputs[index] = output
        return lost

    def _take(self, batch: Batched, call: Call) -> dict[HeadRows, Loaded]:
        """The tensors of the groups; without those that cannot come back, where a call returns its errors."""
        rows = [len(indices) for indices in batch.values()]
        try:
            return dict(zip(batch, self._bank.take([group.mounted.seat for group in batch], rows), strict=True))
        except AdapterkitError:
            if not call.returns:
                raise
        return call.reach(batch, self._bank)
