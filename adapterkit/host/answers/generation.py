"""Text from many adapters in one batch: every row continues with its own adapter, its own length and its own stops.

The steps are those of `tasks.continuing`, around a trunk in which every row carries its adapter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from adapterkit.data import group_by_length
from adapterkit.errors import AdapterkitError, GenerationError
from adapterkit.host.answers.asked_rows import Call, HeadRows
from adapterkit.host.answers.batching import Forwards
from adapterkit.host.answers.decoding import Decoding
from adapterkit.host.bank.residency import Bank
from adapterkit.host.engine.engine import Engine
from adapterkit.host.engine.grown import Growth
from adapterkit.tasks.continuing import continued
from adapterkit.tasks.protocol import Feature, GeneratingTask, Vocabulary

ENDLESS = 2**31

New = int | Sequence[int] | None
"""The most new tokens: of every row, or one number per row. None: what each task says."""

Stop = str | Sequence[str] | Sequence[Sequence[str] | None] | None
"""Texts at which a row ends: one or several for every row, or one list of texts per row. None: what each task says."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """A text to continue: one of the features of a group, and where its row stands in the call; the most tokens to
    generate (None: what the task says), and the texts at which it ends, as the model writes them."""

    group: HeadRows
    task: GeneratingTask
    index: int
    place: int
    new_tokens: int | None
    stop: tuple[str, ...]

    @property
    def feature(self) -> Feature:
        """The encoded prompt."""
        return self.group.features[self.index]

    @property
    def problems(self) -> list[str]:
        """What makes no sense in how it is to be continued."""
        problems = []
        if self.new_tokens is not None and self.new_tokens < 1:
            problems.append(f"max_new_tokens: found {self.new_tokens}, expected at least 1")
        if "" in self.stop:
            problems.append("stop: found an empty text, which would end every row at once")
        return problems


class Generation:
    """Generates for groups of a host. Holds nothing of a call."""

    def __init__(self, engine: Engine, forwards: Forwards, bank: Bank, vocabulary: Vocabulary) -> None:
        self._engine, self._forwards, self._bank, self._vocabulary = engine, forwards, bank, vocabulary

    def fill(self, call: Call, decoding: Decoding, new: New = None, stop: Stop = None, *, batch_size: int) -> None:
        """Fill in the generated text of every row of the groups that generate.
        `new`: see `New`; per row by its place in the call. `stop`: see `Stop`; per row by its place in the call. Raises
        GenerationError: lengths or stops that do not fit the rows or make no sense."""
        prompts = list(_prompts(call, _lengths(new, call.rows), _stops(stop, call.rows)))
        problems = {prompt.place: prompt.problems for prompt in prompts if prompt.problems}
        if problems and not call.returns:
            told = [f"row {place + 1}: {text}" for place in sorted(problems) for text in problems[place]]
            raise GenerationError("these rows cannot be continued", told)
        call.refuse({place: GenerationError("this row cannot be continued", told) for place, told in problems.items()})
        prompts = [prompt for prompt in prompts if prompt.place not in problems]
        while prompts:
            try:
                texts = self._texts(prompts, decoding, batch_size)
            except AdapterkitError:
                failed = len(call.failed)
                if call.returns:
                    call.reach({prompt.group: None for prompt in prompts}, self._bank)
                if len(call.failed) == failed:
                    raise
                prompts = [prompt for prompt in prompts if prompt.group not in call.failed]
            else:
                for prompt, text in zip(prompts, texts, strict=True):
                    prompt.group.outputs[prompt.index] = text or ""
                lost = [prompt for prompt, text in zip(prompts, texts, strict=True) if text is None]
                call.lose({prompt.place: prompt.group.mounted.name for prompt in lost})
                return

    def refuse_others(self, call: Call) -> None:
        """Let every group fail that does not generate."""
        for group in call.groups:
            if not group.generates:
                error = GenerationError(
                    f"{group.mounted.name} does not generate text",
                    [f"kind: found {group.head.task.kind}"],
                    "Ask it with predict.",
                )
                call.fail(group, error)

    def _texts(self, prompts: Sequence[Prompt], decoding: Decoding, batch_size: int) -> list[str | None]:
        """One text per prompt, in their order, without the prompt; None where logits are not finite."""
        seeds = decoding.seeds(max(prompt.place for prompt in prompts) + 1)
        # The most new tokens that the backbone has room for behind each prompt by itself.
        rooms = [p.task.new_tokens(p.task.collate_prompts([p.feature], self._vocabulary), ENDLESS) for p in prompts]
        wanted = [p.task.settings.max_new_tokens if p.new_tokens is None else p.new_tokens for p in prompts]
        limits = list(map(min, wanted, rooms))
        texts: dict[int, str | None] = {}
        with torch.inference_mode(), self._forwards.narrow():
            for (beams, *_), group in _groups(prompts, rooms, limits, decoding).items():
                lengths = [prompts[index].feature.length_tokens for index in group]
                for chosen in group_by_length(lengths, batch_size=batch_size, shuffle=False):
                    rows = [group[place] for place in chosen]
                    batch = [(prompts[index], limits[index], seeds[prompts[index].place]) for index in rows]
                    texts.update(zip(rows, self._continued(batch, decoding, beams), strict=True))
        return [texts[index] for index in range(len(prompts))]

    def _continued(
        self, batch: Sequence[tuple[Prompt, int, int]], decoding: Decoding, beams: int
    ) -> Sequence[str | None]:
        """The texts of prompts, each with its limit and its seed, that share a model class."""
        counts: dict[HeadRows, int] = {}
        for prompt, _, _ in batch:
            counts[prompt.group] = counts.get(prompt.group, 0) + 1
        taken = self._bank.take([group.mounted.seat for group in counts], list(counts.values()))
        loaded = dict(zip(counts, taken, strict=True))
        order = self._engine.order([loaded[prompt.group].carried for prompt, _, _ in batch])
        prompts, limits, seeds = zip(*(batch[place] for place in order), strict=True)
        group, device = prompts[0].group, self._engine.backbone.device
        inputs = prompts[0].task.collate_prompts([prompt.feature for prompt in prompts], self._vocabulary).to(device)
        with self._engine.routed([loaded[prompt.group].carried for prompt in prompts]) as trunk:
            head = loaded[group].heads[group.name]
            model = head.template.grown(Growth([head.tensors], trunk=trunk))
            stops, draws = [prompt.stop for prompt in prompts], decoding.draws(seeds, device)
            texts = continued(model, inputs, limits, stops, beams=beams, draws=draws)
        return [text for _, text in sorted(zip(order, texts, strict=True), key=lambda pair: pair[0])]


def _prompts(call: Call, lengths: Sequence[int | None], stops: Sequence[Sequence[str] | None]) -> Iterator[Prompt]:
    for group in call.groups:
        task = group.head.task
        if not isinstance(task, GeneratingTask):
            continue
        for index, feature in enumerate(group.features):
            place = group.places[feature.row]
            yield Prompt(group, task, index, place, lengths[place], task.stops(feature, stops[place]))


def _groups(
    prompts: Sequence[Prompt], rooms: Sequence[int], limits: Sequence[int], decoding: Decoding
) -> dict[tuple[Any, ...], list[int]]:
    """Prompts that can share a batch, by position: those with the same number of beams, model class and head.

    A batch goes on until its last row has ended, and the others are fed padding meanwhile. A prompt that leaves no
    place for that in the backbone shares a batch with prompts that leave as little. Beams weigh what they may still
    gain by the batch's limit (`early_stopping: never`), so there it has to be the row's own.
    """
    longest = max(limits, default=0)
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, (prompt, room, limit) in enumerate(zip(prompts, rooms, limits, strict=True)):
        beams = prompt.task.settings.beams if decoding.beams is None else decoding.beams
        if decoding.temperature:
            beams = 1
        template = prompt.group.head.template
        # A head that is trained belongs to one adapter, a borrowed one to all.
        head = prompt.group if template.shapes else None
        key = beams, min(room, longest if beams == 1 else limit), type(prompt.task), id(template), head
        groups.setdefault(key, []).append(index)
    return groups


def _lengths(new: New, count: int) -> list[int | None]:
    if new is None or isinstance(new, int):
        return [new] * count
    return list(_one_per_row("max_new_tokens", new, count))


def _stops(stop: Stop, count: int) -> list[tuple[str, ...] | None]:
    if stop is None:
        return [None] * count
    if isinstance(stop, str):
        return [(stop,)] * count
    if all(isinstance(text, str) for text in stop):
        return [tuple(str(text) for text in stop)] * count
    return [
        (one,) if isinstance(one, str) else None if one is None else tuple(one)
        for one in _one_per_row("stop", stop, count)
    ]


def _one_per_row(name: str, values: Sequence[Any], count: int) -> Sequence[Any]:
    if len(values) != count:
        told = [f"{name}: found {len(values)}, expected one per row, and there are {count}"]
        raise GenerationError(f"{name} does not fit the rows", told)
    return values
