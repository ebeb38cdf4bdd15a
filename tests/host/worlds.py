"""What tests of the engine share: adapters with random tensors, batches, and the answers of the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapterkit.adapted import PREFIX
from adapterkit.backbone import Backbone
from adapterkit.host.engine.engine import Engine
from adapterkit.host.packing.packers import Packed, pack
from adapterkit.recipe import BottleneckMethod, Ia3Method, LoraMethod
from tests import tiny
from tests.methods.cases import attached

ALL: dict[str, Any] = {"sites": "all-linear"}
METHODS: dict[str, Any] = {
    "lora": LoraMethod(rank=2, alpha=6),
    "lora-all": LoraMethod(**ALL, rank=4),
    "lora-patterns": LoraMethod(**ALL, rank=4, layers=(1,), rslora=True),
    "lora-top": LoraMethod(top=1, rank=3),
    "dora": LoraMethod(**ALL, rank=2, dora=True),
    "pissa": LoraMethod(**ALL, rank=2, initialization="pissa"),
    "pissa-rslora": LoraMethod(**ALL, rank=2, initialization="pissa", rslora=True),
    "houlsby": BottleneckMethod(placement="houlsby", width=4, activation="silu", scale=2.0),
    "pfeiffer": BottleneckMethod(placement="pfeiffer", width=4, activation="gelu", scale_learned=True),
    "pfeiffer-top": BottleneckMethod(placement="pfeiffer", width=3, top=1, activation="leaky_relu"),
    "parallel": BottleneckMethod(placement="parallel", width=4, activation="tanh", scale_learned=True),
    "parallel-cross": BottleneckMethod(placement="parallel", width=3, cross_attention=True),
    "houlsby-cross": BottleneckMethod(placement="houlsby", width=4, cross_attention=True, layers=(1,)),
    "biases": LoraMethod(**ALL, rank=2, bias="lora_only"),
    "dora-biases": LoraMethod(**ALL, rank=2, bias="lora_only", dora=True),
    "ia3": Ia3Method(),
    "all-biases": LoraMethod(rank=2, bias="all"),
}
"""Every method that an artifact can hold, by name."""

WITHOUT_BIAS = frozenset({"modernbert", "llama", "t5"})
"""Families whose linears have no bias."""


def methods_of(family: str) -> list[str]:
    """Those of `METHODS` that the family can have."""
    with_bias, crosses = family not in WITHOUT_BIAS, family in tiny.ENCODER_DECODERS
    return [name for name in METHODS if (with_bias or "biases" not in name) and (crosses or "cross" not in name)]


ROWS = 5
"""Different texts that every test may use, of different lengths."""


def tokens(row: int) -> Tensor:
    """Ids of one row: (1, T), T from 3 up."""
    return torch.randint(10, 60, (1, 3 + 2 * row), generator=torch.Generator().manual_seed(row))


def batch(rows: Sequence[int], family: str) -> dict[str, Tensor]:
    """Rows in one batch, padded on the right."""
    ids = [tokens(row)[0] for row in rows]
    width = max(map(len, ids))
    inputs = {
        "input_ids": torch.stack([torch.cat([i, i.new_full((width - len(i),), 1)]) for i in ids]),
        "attention_mask": torch.tensor([[1] * len(i) + [0] * (width - len(i)) for i in ids]),
    }
    if family in tiny.ENCODER_DECODERS:
        inputs["decoder_input_ids"] = inputs["input_ids"][:, :3]
    return inputs


def length(row: int, family: str) -> int:
    """How many states of a row's output are its own."""
    return 3 if family in tiny.ENCODER_DECODERS else tokens(row).shape[1]


@dataclass(frozen=True, eq=False)
class Mounted:
    """An adapter as the host has it.

    Attributes:
        alone: what the reference answers to each of the `ROWS` by itself: (T, D).
    """

    packed: Packed | None
    state: dict[str, Tensor]
    alone: list[Tensor]

    @property
    def carried(self) -> tuple[Packed, ...]:
        return () if self.packed is None else (self.packed,)


def states(trunk: Any, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        found: Tensor = trunk(**inputs).last_hidden_state
    return found


def make(backbone: Backbone, family: str, method: Any, seed: int = 0, size: float = 0.1) -> Mounted:
    """An adapter with random tensors, and what the method itself answers on the trunk."""
    with attached(backbone, method, seed) as attachment:
        noise = torch.Generator().manual_seed(seed + 1)
        own = {n: t + size * torch.randn(t.shape, generator=noise) for n, t in attachment.state().items()}
        attachment.load(own)
        state = {PREFIX + name: tensor for name, tensor in attachment.state().items()}
        config = attachment.config()
        alone = [states(backbone.trunk, batch([row], family))[0] for row in range(ROWS)]
    return Mounted(pack(method, config, state, backbone), state, alone)


def answers(engine: Engine, family: str, rows: Sequence[tuple[Mounted, int]]) -> list[Tensor]:
    """States of every (adapter, row) of one mixed batch, in the order given."""
    order = engine.order([mounted.carried for mounted, _ in rows])
    with engine.routed([rows[i][0].carried for i in order]) as view:
        found = states(view, batch([rows[i][1] for i in order], family))
    by_row = {i: found[place] for place, i in enumerate(order)}
    return [by_row[i][: length(rows[i][1], family)] for i in range(len(rows))]


def distance(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest state where that is above 1."""
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1))
