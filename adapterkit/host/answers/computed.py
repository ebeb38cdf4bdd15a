"""The rows of a call whose answers are computed and not generated: batches of many adapters, and what they give."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from adapterkit.data import group_by_length
from adapterkit.errors import AdapterkitError
from adapterkit.host.answers.asked_rows import Call, HeadRows, collate
from adapterkit.host.answers.batching import Forwards, Piece
from adapterkit.host.bank.residency import Bank, Loaded
from adapterkit.tasks.protocol import Vocabulary

Part = dict[HeadRows, list[int]]
"""Features that one batch reads, by group."""


class Computing:
    """Answers groups of a host that do not generate. Holds nothing of a call."""

    def __init__(self, forwards: Forwards, bank: Bank, vocabulary: Vocabulary, device: torch.device) -> None:
        self._forwards, self._bank, self._vocabulary, self._device = forwards, bank, vocabulary, device

    def fill(self, call: Call, *, batch_size: int) -> None:
        """Fill in what tasks make of the logits of every row.

        Raises:
            AdapterkitError: an adapter cannot come back from where it waits, in a call that raises errors.
        """
        asked = [(group, index) for group in call.groups if not group.generates for index in range(len(group.features))]
        lengths = [group.features[index].length_tokens for group, index in asked]
        parts = [
            _by_job([asked[place] for place in sorted(part)])
            for part in group_by_length(lengths, batch_size=batch_size, shuffle=False)
        ]
        for number, part in enumerate(parts):
            taken = self._take({group: indices for group, indices in part.items() if group not in call.failed}, call)
            if number + 1 < len(parts):
                self._bank.prefetch(dict.fromkeys(group.mounted.seat for group in parts[number + 1]))
            if taken:
                self._compute({group: part[group] for group in taken}, list(taken.values()))

    def _compute(self, part: Part, loaded: Sequence[Loaded]) -> None:
        collated = collate(part, self._vocabulary)
        pieces = [
            Piece(held.layers, held.heads[group.name], batch.inputs)
            for group, held, batch in zip(part, loaded, collated, strict=True)
        ]
        with torch.inference_mode():
            computed = self._forwards.logits(pieces)
            for (group, indices), batch, logits in zip(part.items(), collated, computed, strict=True):
                outputs = group.head.task.outputs(logits, batch.to(self._device))
                for index, output in zip(indices, outputs, strict=True):
                    group.outputs[index] = output

    def _take(self, part: Part, call: Call) -> dict[HeadRows, Loaded]:
        """The tensors of the groups; without those that cannot come back, where a call returns its errors."""
        rows = [len(indices) for indices in part.values()]
        try:
            return dict(zip(part, self._bank.take([group.mounted.seat for group in part], rows), strict=True))
        except AdapterkitError:
            if not call.returns:
                raise
        return call.reach(part, self._bank)


def _by_job(asked: Sequence[tuple[HeadRows, int]]) -> Part:
    found: Part = {}
    for group, index in asked:
        found.setdefault(group, []).append(index)
    return found
