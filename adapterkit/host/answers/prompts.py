"""The rows of a call that want text: from groups to prompts, and from texts to answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from adapterkit.errors import GenerationError
from adapterkit.host.answers.asked_rows import HeadRows
from adapterkit.host.answers.batching import Forwards
from adapterkit.host.answers.generation import Decoding, Prompt, generate
from adapterkit.host.bank.residency import Bank
from adapterkit.host.engine.engine import Engine
from adapterkit.host.engine.route import Layers
from adapterkit.tasks.protocol import GeneratingTask, Vocabulary

New = int | Sequence[int] | None
"""The most new tokens: of every row, or one number per row. None: what each task says."""

Stop = str | Sequence[str] | Sequence[Sequence[str]] | None
"""Texts at which a row ends: one or several for every row, or one list of texts per row."""


class Generation:
    """Generates for groups of a host. Holds nothing of a call."""

    def __init__(self, engine: Engine, forwards: Forwards, bank: Bank, vocabulary: Vocabulary) -> None:
        self._engine, self._forwards, self._bank, self._vocabulary = engine, forwards, bank, vocabulary

    def fill(
        self, groups: Sequence[HeadRows], decoding: Decoding, new: New = None, stop: Stop = None, *, batch_size: int
    ) -> None:
        """Fill in the generated text of every row of the groups.

        Args:
            new: see `New`; per row by its place in the call.
            stop: see `Stop`; per row by its place in the call.

        Raises:
            GenerationError: lengths or stops that do not fit the rows or make no sense.
        """
        members = [(group, index) for group in groups for index in range(len(group.features))]
        count = 1 + max((place for group in groups for place in group.places), default=-1)
        lengths, stops = _lengths(new, count), _stops(stop, count)
        prompts = []
        for group, index in members:
            place = group.places[group.features[index].row]
            prompts.append(
                Prompt(_task(group), group.features[index], group.head.template, group, lengths[place], stops[place])
            )
        texts = generate(
            self._engine,
            prompts,
            self._vocabulary,
            self._take,
            decoding,
            batch_size=batch_size,
            narrow=self._forwards.narrow,
        )
        for (group, index), text in zip(members, texts, strict=True):
            group.outputs[index] = text

    def _take(self, prompts: Sequence[Prompt]) -> list[tuple[Layers, Mapping[str, Tensor]]]:
        counts: dict[Any, int] = {}
        for prompt in prompts:
            counts[prompt.source] = counts.get(prompt.source, 0) + 1
        taken = self._bank.take([group.mounted.seat for group in counts], list(counts.values()))
        loaded = dict(zip(counts, taken, strict=True))
        found = []
        for prompt in prompts:
            group: Any = prompt.source
            found.append((loaded[group].layers, loaded[group].heads[group.name].tensors))
        return found


def _task(group: HeadRows) -> GeneratingTask:
    task = group.head.task
    if not isinstance(task, GeneratingTask):
        raise GenerationError(
            f"{group.mounted.name} does not generate text", [f"kind: found {task.kind}"], "Ask it with predict."
        )
    return task


def _lengths(new: New, count: int) -> list[int | None]:
    if new is None or isinstance(new, int):
        return [new] * count
    return list(_one_per_row("max_new_tokens", new, count))


def _stops(stop: Stop, count: int) -> list[tuple[str, ...]]:
    if stop is None:
        return [()] * count
    if isinstance(stop, str):
        return [(stop,)] * count
    if all(isinstance(text, str) for text in stop):
        return [tuple(str(text) for text in stop)] * count
    return [(one,) if isinstance(one, str) else tuple(one or ()) for one in _one_per_row("stop", stop, count)]


def _one_per_row(name: str, values: Sequence[Any], count: int) -> Sequence[Any]:
    if len(values) != count:
        raise GenerationError(
            f"{name} does not fit the rows",
            [f"{name}: found {len(values)}, expected one per row, and there are {count}"],
        )
    return values
