"""Text from many adapters in one batch: every row continues with its own adapter, its own length and its own stops.

The steps are those of `tasks.continuing`, around a trunk in which every row carries its adapter. Sampling adds Gumbel
noise to the filtered scores and takes the largest, which draws from their softmax (Gumbel 1954). The noise of a row
comes from a generator of its own, so that what a row draws depends neither on its neighbours nor on other threads.

Axes: B rows, K beams, N = B·K sequences, T tokens, V vocabulary.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from adapterkit.data import group_by_length
from adapterkit.errors import GenerationError
from adapterkit.host.engine.engine import Engine
from adapterkit.host.engine.grown import Growth
from adapterkit.host.engine.heads import Template
from adapterkit.host.engine.route import Carried
from adapterkit.tasks.continuing import continued
from adapterkit.tasks.protocol import Feature, GeneratingTask, Vocabulary

SEEDS = 2**63
ENDLESS = 2**31


@dataclass(frozen=True, eq=False)
class Prompt:
    """A text to continue: the task, which says how a prompt is laid out and how tokens become text, the encoded prompt,
    the model class's modules, and whose it is: where `Take` finds its adapter, which prompts of one source share. Then
    the most tokens to generate (None: what the task says), and texts at which the row ends, as the model writes them.
    """

    task: GeneratingTask
    feature: Feature
    template: Template
    source: Hashable
    new_tokens: int | None = None
    stop: tuple[str, ...] = ()


Take = Callable[[Sequence[Prompt]], Sequence[tuple[Carried, Mapping[str, Tensor]]]]
"""Prompts that are about to be continued -> for each its adapter, and its head's own tensors."""


@dataclass(frozen=True)
class Decoding:
    """How the next token is chosen: by so many beams (None: what each task says), or at a temperature above 0 by a
    draw, among the `top_k` likeliest, or those that together have the probability `top_p` (Holtzman et al. 2020). With
    a seed, row i of a call draws the same whatever stands beside it; None draws anew every time."""

    beams: int | None = None
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        problems = []
        if self.beams is not None and self.beams < 1:
            problems.append(f"num_beams: found {self.beams}, expected at least 1")
        if not 0 <= self.temperature < float("inf"):
            problems.append(f"temperature: found {self.temperature}, expected 0 or more")
        if self.top_k is not None and self.top_k < 1:
            problems.append(f"top_k: found {self.top_k}, expected at least 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            problems.append(f"top_p: found {self.top_p}, expected more than 0 and at most 1")
        if self.seed is not None and not 0 <= self.seed < SEEDS:
            problems.append(f"seed: found {self.seed}, expected 0 to 2^63 - 1")
        if not self.temperature:
            for name in ("top_k", "top_p", "seed"):
                if getattr(self, name) is not None:
                    problems.append(f"{name}: has no meaning at temperature 0, where nothing is drawn")
        elif self.beams is not None and self.beams > 1:
            problems.append(f"num_beams: found {self.beams} at temperature {self.temperature}, expected one of the two")
        if problems:
            raise GenerationError("these settings cannot be honoured", problems)


def generate(
    engine: Engine,
    prompts: Sequence[Prompt],
    vocabulary: Vocabulary,
    take: Take,
    decoding: Decoding,
    *,
    places: Sequence[int] | None = None,
    batch_size: int = 64,
    narrow: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> list[str | None]:
    """Continue prompts, many adapters in one batch. Returns one text per prompt, in their order, without the prompt;
    None where logits are not finite. `places`, from 0, are those of the prompts in a call, which decide what they draw;
    `narrow` is the context that heads above a trunk in a narrow number format compute in.

    Raises GenerationError: a number of new tokens, or a stop, that makes no sense.
    """
    at = range(len(prompts)) if places is None else places
    refuse_prompts(dict(zip(at, prompts, strict=True)))
    drawn = _seeds(decoding, max(at, default=-1) + 1)
    seeds = [drawn[place] for place in at]
    # The most new tokens that the backbone has room for behind each prompt by itself.
    rooms = [p.task.new_tokens(p.task.collate_prompts([p.feature], vocabulary), ENDLESS) for p in prompts]
    wanted = [p.task.settings.max_new_tokens if p.new_tokens is None else p.new_tokens for p in prompts]
    limits = list(map(min, wanted, rooms))
    texts: dict[int, str | None] = {}
    with torch.inference_mode(), narrow():
        for (beams, *_), group in _groups(prompts, rooms, limits, decoding).items():
            lengths = [prompts[index].feature.length_tokens for index in group]
            for chosen in group_by_length(lengths, batch_size=batch_size, shuffle=False):
                rows = [group[place] for place in chosen]
                taken = dict(zip(rows, take([prompts[index] for index in rows]), strict=True))
                order = engine.order([taken[index][0] for index in rows])
                rows = [rows[place] for place in order]
                found = _together(
                    engine,
                    [prompts[index] for index in rows],
                    [taken[index] for index in rows],
                    [limits[index] for index in rows],
                    vocabulary,
                    beams,
                    _draws(decoding, [seeds[index] for index in rows], engine.backbone.device),
                )
                texts.update(zip(rows, found, strict=True))
    return [texts[index] for index in range(len(prompts))]


def _together(
    engine: Engine,
    prompts: Sequence[Prompt],
    adapters: Sequence[tuple[Carried, Mapping[str, Tensor]]],
    limits: Sequence[int],
    vocabulary: Vocabulary,
    beams: int,
    draws: Sequence[LogitsProcessor],
) -> list[str | None]:
    """Continue prompts that share a model class, in the engine's order."""
    batch = prompts[0].task.collate_prompts([prompt.feature for prompt in prompts], vocabulary)
    with engine.routed([carried for carried, _ in adapters]) as trunk:
        model = prompts[0].template.grown(Growth([adapters[0][1]], trunk=trunk))
        stops = [prompt.stop for prompt in prompts]
        return continued(model, batch.to(engine.backbone.device), limits, stops, beams=beams, draws=draws)


class GumbelNoise(LogitsProcessor):  # type: ignore[misc]
    """Adds every row's own Gumbel noise, so that the largest score is a draw from the softmax."""

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        noise = torch.empty_like(scores, dtype=torch.float32)
        for row, generator in zip(noise, self._generators, strict=True):
            row.exponential_(generator=generator)
        return scores - noise.log()


def _draws(decoding: Decoding, seeds: Sequence[int], device: torch.device) -> list[LogitsProcessor]:
    if not decoding.temperature:
        return []
    chosen: list[LogitsProcessor] = [TemperatureLogitsWarper(float(decoding.temperature))]
    if decoding.top_k is not None:
        chosen.append(TopKLogitsWarper(decoding.top_k))
    if decoding.top_p is not None:
        chosen.append(TopPLogitsWarper(float(decoding.top_p)))
    chosen.append(GumbelNoise(seeds, device))
    return chosen


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
        # A head that is trained belongs to one adapter, a borrowed one to all.
        head = prompt.source if prompt.template.shapes else None
        key = beams, min(room, longest if beams == 1 else limit), type(prompt.task), id(prompt.template), head
        groups.setdefault(key, []).append(index)
    return groups


def _seeds(decoding: Decoding, rows: int) -> list[int]:
    generator = torch.Generator()
    if decoding.seed is None:
        generator.seed()
    else:
        generator.manual_seed(decoding.seed)
    return [int(seed) for seed in torch.randint(SEEDS - 1, (rows,), generator=generator)]


def problems_of(prompt: Prompt) -> list[str]:
    """What makes no sense in how a prompt is to be continued."""
    problems = []
    if prompt.new_tokens is not None and prompt.new_tokens < 1:
        problems.append(f"max_new_tokens: found {prompt.new_tokens}, expected at least 1")
    if "" in prompt.stop:
        problems.append("stop: found an empty text, which would end every row at once")
    return problems


def refuse_prompts(prompts: Mapping[int, Prompt]) -> None:
    """Raise GenerationError for prompts that cannot be continued, all of them, by their places from 0."""
    problems = [f"row {place + 1}: {text}" for place in sorted(prompts) for text in problems_of(prompts[place])]
    if problems:
        raise GenerationError("these rows cannot be continued", problems)
