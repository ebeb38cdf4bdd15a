"""Many adapters on one text: the layers that none of them has touched yet run once for all of them.

What lies below a row's lowest adapted layer depends on its text alone. So rows with one text begin as one row that
carries nothing, and each becomes a row of its own, with its adapter, where that layer is reached. All rows that run
between two such layers run in one batch.

    layer      0   1   2   3   4   5
    a, top 2   ─────────────── a   a
    b, all     b   b   b   b   b   b
    c, no one  ─────────────── c   c      as nobody else would be left to share with

Axes: B rows, T tokens, D hidden width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapterkit.host.engine.engine import Engine
from adapterkit.host.engine.heads import States
from adapterkit.host.engine.route import Carried

Runner = tuple[int, bool]
"""A row of the batch, and whether it runs with its own adapter, or without any for all rows that share with it."""


@dataclass(frozen=True)
class Stretch:
    """The layers from `low` up to `high` (None for the end), between which no row is added: what runs there, and for
    every row of the batch who runs for it, as a place in `runners`."""

    low: int
    high: int | None
    runners: tuple[Runner, ...]
    runner_of: tuple[int, ...]


def stretches_of(texts: Sequence[int], lowest: Sequence[int]) -> list[Stretch]:
    """How rows run through the layers; one stretch where nothing can be shared.
    `texts`: for every row a number; rows with the same number read the same text. `lowest`: for every row its lowest
    adapted layer, the number of layers where none is, negative below all layers."""
    leaves = _leaves(texts, lowest)
    bounds = sorted({0, *leaves})
    found = []
    for low, high in zip(bounds, [*bounds[1:], None], strict=True):
        places: dict[Runner, int] = {}
        first: dict[int, int] = {}
        runner_of = []
        for row, (text, leave) in enumerate(zip(texts, leaves, strict=True)):
            runner = (row, True) if leave <= low else (first.setdefault(text, row), False)
            runner_of.append(places.setdefault(runner, len(places)))
        found.append(Stretch(low, high, tuple(places), tuple(runner_of)))
    return found


def _leaves(texts: Sequence[int], lowest: Sequence[int]) -> list[int]:
    """For every row the layer from which it runs by itself: where it must, or where nobody else is left to share."""
    of_text: dict[int, list[int]] = {}
    for text, layer in zip(texts, lowest, strict=True):
        of_text.setdefault(text, []).append(max(0, layer))
    last = {text: sorted([0, *layers])[-2] for text, layers in of_text.items()}
    return [min(max(0, layer), last[text]) for text, layer in zip(texts, lowest, strict=True)]


def lowest_layer(engine: Engine, carried: Carried) -> int:
    """The lowest layer of the side that reads the text which a row's adapters touch."""
    found = [
        packed.lowest_layer.get(engine.side, engine.layer_count) if packed.lowest_layer else 0 for packed in carried
    ]
    return min(found, default=engine.layer_count)


def run(
    engine: Engine,
    stretches: Sequence[Stretch],
    carried: Sequence[Carried],
    inputs: Mapping[str, Tensor],
    model: str,
    **settings: Any,
) -> States:
    """What the trunk computes for a batch (B, T) of rows that share layers, in stretches from `stretches_of`, two at
    least. `model` is the path of what runs: "" for the trunk, "encoder" for the encoder of an encoder-decoder;
    `settings` are what else it is told."""
    output: Any = None
    at: Sequence[int] = ()
    for stretch in stretches:
        running = [carried[row] if own else () for row, own in stretch.runners]
        order = engine.order(running)
        rows = [stretch.runners[place][0] for place in order]
        entering = None if output is None else _pick(output, [at[row] for row in rows])
        given = {name: _pick(tensor, rows) for name, tensor in inputs.items()}
        with engine.routed_range([running[place] for place in order], (model, stretch.low, stretch.high)) as forward:
            output = forward(entering, **given, **settings)
        now = {place: position for position, place in enumerate(order)}
        at = [now[place] for place in stretch.runner_of]
    found = States.of(output)
    return found if _are_all(at, len(carried)) else found.rows(torch.tensor(at))


def _pick(tensor: Tensor, rows: Sequence[int]) -> Tensor:
    """These rows of a tensor; the tensor itself where they are all of its own."""
    return tensor if _are_all(rows, len(tensor)) else tensor.index_select(0, torch.tensor(rows, device=tensor.device))


def _are_all(rows: Sequence[int], count: int) -> bool:
    return len(rows) == count and all(row == place for place, row in enumerate(rows))
