"""The tables that the laws run over, and what every law does with a case."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adapterkit.methods.attachment import Attachment
from adapterkit.methods.table import attach
from adapterkit.recipe import BottleneckMethod, Ia3Method, LoraMethod, NoMethod
from tests import tiny


@dataclass(frozen=True)
class Case:
    """A method, and how far its answers may be from exact.

    Attributes:
        untrained: largest change of a hidden state by the untrained adapter.
        merges: whether it can be folded into the weights.
    """

    settings: Any
    untrained: float = 0.0
    merges: bool = True


ALL = {"sites": "all-linear", "rank": 4}
CASES = {
    "none": Case(NoMethod()),
    "lora": Case(LoraMethod()),
    "lora-all-linear": Case(LoraMethod(**ALL, dropout=0.1)),
    "lora-rslora": Case(LoraMethod(**ALL, rslora=True, initialization="gaussian")),
    "lora-dora": Case(LoraMethod(**ALL, dora=True)),
    # Two orthogonal halves whose product is zero, and a weight put together again: exact but for rounding.
    "lora-orthogonal": Case(LoraMethod(**ALL, initialization="orthogonal"), untrained=1e-5),
    "lora-pissa": Case(LoraMethod(**ALL, initialization="pissa"), untrained=1e-5),
    "houlsby": Case(BottleneckMethod(placement="houlsby", width=4, activation="silu"), merges=False),
    "pfeiffer": Case(BottleneckMethod(placement="pfeiffer", width=4, activation="gelu", dropout=0.1), merges=False),
    "parallel": Case(
        BottleneckMethod(placement="parallel", width=4, activation="tanh", scale_learned=True), merges=False
    ),
    "ia3": Case(Ia3Method()),
}
CROSSING = {
    f"{placement}-cross": Case(
        BottleneckMethod(placement=placement, width=4, activation=activation, cross_attention=True), merges=False
    )
    for placement, activation in {"houlsby": "silu", "pfeiffer": "gelu", "parallel": "tanh"}.items()
}
"""Methods of encoder-decoders alone."""
PAIRS = [
    (family, name)
    for row, family in enumerate(tiny.FAMILIES)
    for column, name in enumerate(CASES)
    if (row + column) % 3 == 0
]
"""Every third pair: each family with four methods, each method with three families."""


def inputs(family: str) -> dict[str, Tensor]:
    """Two rows, the second padded."""
    ids = torch.randint(10, 60, (2, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    decoder = {"decoder_input_ids": ids[:, :5]} if family in tiny.ENCODER_DECODERS else {}
    return {"input_ids": ids, "attention_mask": mask, **decoder}


def hidden(model: nn.Module, family: str, **more: Any) -> Tensor:
    """Last hidden states."""
    output: Tensor = model(**inputs(family), **more).last_hidden_state
    return output


@contextmanager
def attached(backbone: Any, settings: Any, seed: int = 0, **more: Any) -> Iterator[Attachment]:
    """An attachment on the backbone's own trunk, taken off at the end."""
    attachment = attach(backbone.trunk, backbone, settings, seed=seed, **more)
    try:
        yield attachment
    finally:
        attachment.detach()


def disturb(attachment: Attachment, size: float = 0.2, seed: int = 3) -> None:
    """Give every trained parameter other values, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in attachment.parameters().values():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise.to(parameter.dtype), alpha=size)


def bits(tensor: Tensor) -> bytes:
    """A tensor's bytes."""
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def snapshot(trunk: nn.Module) -> dict[str, Any]:
    """All that detaching has to bring back: modules, bytes, flags, hooks and attributes."""
    return {
        "modules": [(name, id(module), module.training) for name, module in trunk.named_modules()],
        "parameters": [(name, id(p), p.data_ptr(), p.requires_grad, p.grad) for name, p in trunk.named_parameters()],
        "bytes": {name: bits(tensor) for name, tensor in trunk.state_dict().items()},
        "hooks": [
            (name, [(key, list(value)) for key, value in vars(module).items() if key.endswith("_hooks") and value])
            for name, module in trunk.named_modules()
        ],
        "attributes": [(name, sorted(vars(module))) for name, module in trunk.named_modules()],
    }
