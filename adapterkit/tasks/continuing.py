"""A batch of prompts continued by a model of transformers: every row by its own limit, stops and rules.

The steps are transformers' own `generate`, with its key-value cache. A row's text is the one that it has alone.

Axes: B rows, N = B times beams, T tokens.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from adapterkit.backbone.generation_rules import RowFacts, RowRules, ends_of, shared_settings, stops_of
from adapterkit.tasks.values import Batch


def continued(
    model: Any,
    prompts: Batch,
    limits: Sequence[int],
    stops: Sequence[Sequence[str]],
    *,
    beams: int = 1,
    draws: Sequence[Any] = (),
) -> list[str | None]:
    """The text behind every prompt, without special tokens and the space around it; None where logits are not finite.

    The model is transformers' class of the kind, with the checkpoint's generation config. Every row ends at its limit
    of new tokens, or at its stops, which are sought in what is generated alone, and are no part of it. `draws` changes
    the scores of the next token for all rows together: sampling.
    """
    tokenizer, inputs, asked = prompts.vocabulary.tokenizer, prompts.inputs, model.generation_config
    ends = ends_of(asked)
    start = 1 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    stops = [(*own, *stops_of(asked)) for own in stops]
    rules = RowRules(asked, _facts(model, inputs, limits, ends))
    finite = FiniteRows(len(limits))
    generator = copy.copy(model)  # which is told less than the checkpoint's config says
    generator.generation_config = shared_settings(asked, beams=beams, new_tokens=max(limits))
    found_BT: Tensor = generator.generate(
        **inputs,
        generation_config=generator.generation_config,
        stopping_criteria=StoppingCriteriaList([StopsByRow(limits, stops, start, tokenizer)]),
        logits_processor=LogitsProcessorList([finite, *[rules] * rules.are_there, *draws]),
    )
    new = [ids[start : start + limit] for ids, limit in zip(found_BT.tolist(), limits, strict=True)]
    new = [ids[: next((place for place, token in enumerate(ids) if token in ends), len(ids))] for ids in new]
    return [
        None if lost else text_before(ids, own, tokenizer)
        for ids, own, lost in zip(new, stops, finite.lost(), strict=True)
    ]


def _facts(model: Any, inputs: dict[str, Tensor], limits: Sequence[int], ends: Sequence[int]) -> list[RowFacts]:
    ids_BT, mask_BT = inputs["input_ids"], inputs["attention_mask"].bool()
    ends_E = torch.tensor(ends, dtype=torch.long, device=ids_BT.device)
    found = []
    for ids_T, mask_T, limit in zip(ids_BT, mask_BT, limits, strict=True):
        read_1T = ids_T[mask_T][None]
        start = 1 if model.config.is_encoder_decoder else read_1T.shape[1]
        padding = 0 if model.config.is_encoder_decoder else len(ids_T) - start
        found.append(RowFacts(padding, start, limit, read_1T, ends_E))
    return found


class FiniteRows(LogitsProcessor):  # type: ignore[misc]
    """Sees which rows have logits that are no numbers, without waiting for a device at every step."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._lost: Tensor | None = None

    def __call__(self, input_ids: Any, scores: Tensor) -> Tensor:
        # What is ruled out is -inf; of a row, a NaN anywhere or an infinity is the highest.
        lost_B = ~torch.isfinite(scores.amax(-1)).view(self._rows, -1).any(1)
        self._lost = lost_B if self._lost is None else self._lost | lost_B
        return scores

    def lost(self) -> list[bool]:
        """Per row."""
        return [False] * self._rows if self._lost is None else self._lost.tolist()


class StopsByRow(StoppingCriteria):  # type: ignore[misc]
    """Ends every row at its own number of new tokens, and where what is new holds one of its own texts."""

    def __init__(self, limits: Sequence[int], stops: Sequence[Sequence[str]], start: int, tokenizer: Any) -> None:
        self._limits, self._stops, self._start, self._tokenizer = list(limits), list(stops), start, tokenizer
        # Every token writes one byte at least, and some tokenizers write the first one without its space.
        self._tail = 1 + max((len(stop.encode()) for own in stops for stop in own), default=-1)

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Any:
        each = len(input_ids) // len(self._limits)  # candidates of a row, where beams are followed
        new = input_ids.shape[1] - self._start
        done = [new >= limit for limit in self._limits for _ in range(each)]
        if self._tail:
            tails = input_ids[:, max(self._start, input_ids.shape[1] - self._tail) :].tolist()
            for place, ids in enumerate(tails):
                stops = self._stops[place // each]
                done[place] = done[place] or (bool(stops) and _holds(ids, stops, self._tokenizer))
        return torch.tensor(done, device=input_ids.device)


def text_before(ids: Sequence[int], stops: Sequence[str], tokenizer: Any) -> str:
    """The text of tokens before the first stop, without special tokens and the space around it."""
    if stops and _holds(ids, stops, tokenizer):
        while _holds(ids[:-1], stops, tokenizer):
            ids = ids[:-1]
        text = _text(ids, tokenizer, special=False)
        places = [place for stop in stops if (place := text.find(stop)) >= 0]
        if places:
            return text[: min(places)].strip()
        # The stop is made of special tokens, which no text shows.
        whole = _text(ids, tokenizer, special=True)
        before = min(place for stop in stops if (place := whole.find(stop)) >= 0)
        while len(_text(ids, tokenizer, special=True)) > before:
            ids = ids[:-1]
    return _text(ids, tokenizer, special=False).strip()


def _holds(ids: Sequence[int], stops: Sequence[str], tokenizer: Any) -> bool:
    text = _text(ids, tokenizer, special=True)
    return any(stop in text for stop in stops)


def _text(ids: Sequence[int], tokenizer: Any, *, special: bool) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=not special))
