"""The rows of a call that want text: from groups to prompts, and from texts to answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from adapterkit.errors import AdapterkitError, GenerationError
from adapterkit.host.answers.asked_rows import Call, HeadRows
from adapterkit.host.answers.batching import Forwards
from adapterkit.host.answers.generation import Decoding, Prompt, generate, problems_of
from adapterkit.host.bank.residency import Bank
from adapterkit.host.engine.engine import Engine
from adapterkit.host.engine.route import Carried
from adapterkit.tasks.protocol import GeneratingTask, Vocabulary

New = int | Sequence[int] | None
"""The most new tokens: of every row, or one number per row. None: what each task says."""

Stop = str | Sequence[str] | Sequence[Sequence[str] | None] | None
"""Texts at which a row ends: one or several for every row, or one list of texts per row. None: what each task says."""


class Generation:
    """Generates for groups of a host. Holds nothing of a call."""

    def __init__(self, engine: Engine, forwards: Forwards, bank: Bank, vocabulary: Vocabulary) -> None:
        self._engine, self._forwards, self._bank, self._vocabulary = engine, forwards, bank, vocabulary

    def fill(self, call: Call, decoding: Decoding, new: New = None, stop: Stop = None, *, batch_size: int) -> None:
        """Fill in the generated text of every row of the groups that generate.
        `new`: see `New`; per row by its place in the call. `stop`: see `Stop`; per row by its place in the call. Raises
        GenerationError: lengths or stops that do not fit the rows or make no sense."""
        lengths, stops = _lengths(new, call.rows), _stops(stop, call.rows)
        prompts: dict[tuple[HeadRows, int], Prompt] = {}
        for group in call.groups:
            task = group.head.task
            if not isinstance(task, GeneratingTask):
                continue
            for index, feature in enumerate(group.features):
                place = group.places[feature.row]
                ends = task.stops(feature, stops[place])
                prompt = Prompt(task, feature, group.head.template, group, lengths[place], ends)
                if call.returns and (problems := problems_of(prompt)):
                    call.refuse({place: GenerationError("this row cannot be continued", problems)})
                else:
                    prompts[group, index] = prompt
        while prompts:
            try:
                texts = self._generate(prompts, decoding, batch_size)
            except AdapterkitError:
                failed = len(call.failed)
                if call.returns:
                    call.reach({group: None for group, _ in prompts}, self._bank)
                if len(call.failed) == failed:
                    raise
                prompts = {key: prompt for key, prompt in prompts.items() if key[0] not in call.failed}
            else:
                lost: dict[int, str] = {}
                for (group, index), text in zip(prompts, texts, strict=True):
                    group.outputs[index] = text or ""
                    if text is None:
                        lost[group.places[group.features[index].row]] = group.mounted.name
                call.lose(lost)
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

    def _generate(
        self, prompts: Mapping[tuple[HeadRows, int], Prompt], decoding: Decoding, batch_size: int
    ) -> list[str | None]:
        return generate(
            self._engine,
            list(prompts.values()),
            self._vocabulary,
            self._take,
            decoding,
            places=[group.places[group.features[index].row] for group, index in prompts],
            batch_size=batch_size,
            narrow=self._forwards.narrow,
        )

    def _take(self, prompts: Sequence[Prompt]) -> list[tuple[Carried, Mapping[str, Tensor]]]:
        counts: dict[Any, int] = {}
        for prompt in prompts:
            counts[prompt.source] = counts.get(prompt.source, 0) + 1
        taken = self._bank.take([group.mounted.seat for group in counts], list(counts.values()))
        loaded = dict(zip(counts, taken, strict=True))
        found = []
        for prompt in prompts:
            group: Any = prompt.source
            found.append((loaded[group].carried, loaded[group].heads[group.name].tensors))
        return found


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
