"""What a GELU has made is made again for the gradient, and nothing else is."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.weak import TensorWeakRef

from adapterkit.methods.fused.layers import Widened
from adapterkit.methods.fused.lora import LoraLinear, lora_linears
from adapterkit.recipe import LoraMethod
from tests.methods.cases import attached, disturb, hidden

WIDE = 64
"""Of the tiny backbones' feed-forwards."""


def saved_of_width(backbone: Any, family: str, width: int) -> int:
    """How many tensors of this width autograd keeps for a forward, each storage once."""
    weights = {parameter.untyped_storage()._cdata for parameter in backbone.trunk.parameters()}
    kept = set()

    def pack(tensor: Tensor) -> Tensor:
        if tensor.dim() > 1 and tensor.shape[-1] == width:
            kept.add(tensor.untyped_storage()._cdata)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden(backbone.trunk, family).sum()
    return len(kept - weights)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "bart"])
def test_a_layer_keeps_what_the_activation_reads_and_not_what_it_gives(
    tiny_backbones: Mapping[str, Any], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = tiny_backbones[family]
    with attached(backbone, LoraMethod(sites="all-linear", rank=2)) as attachment:
        disturb(attachment)
        fewer = saved_of_width(backbone, family, WIDE)
        monkeypatch.setattr(Widened, "maker_of", lambda widened, x: None)
        more = saved_of_width(backbone, family, WIDE)
    feedforwards = sum(site.name == "feedforward.output" for site in backbone.sites.sites)
    assert feedforwards
    assert more - fewer == feedforwards


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_gradients_are_those_of_a_kept_input(approximate: str, dropout: float) -> None:
    generator = torch.Generator().manual_seed(0)
    base = nn.Linear(6, 4).requires_grad_(False)
    a, b = (nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((2, 6), (4, 2)))
    linear = LoraLinear(base, a, b, 0.5, dropout)
    source = torch.randn(3, 5, 6, generator=generator, requires_grad=True)
    found = []
    for again in (False, True):
        widened = Widened()
        widened.wanted = True
        output = source * 2
        widened.keep(output)
        x = F.gelu(output, approximate=approximate)
        maker = widened.maker_of(x)
        assert maker is not None
        torch.manual_seed(1)
        (y,) = lora_linears(x, [linear], torch.float32, maker if again else None)
        found.append(torch.autograd.grad(y.square().sum(), [source, a, b]))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_an_x_that_something_else_has_made_is_kept() -> None:
    def maker(x_of: Any, *, wanted: bool = True, kept: bool = True) -> Any:
        widened = Widened()
        widened.wanted = wanted
        output = torch.ones(2, 3, requires_grad=True) * 2
        if kept:
            widened.keep(output)
        return widened.maker_of(x_of(output))

    assert maker(F.gelu) is not None
    assert maker(F.silu) is None
    assert maker(lambda y: F.gelu(y) * 2) is None
    assert maker(lambda y: F.gelu(y + 1)) is None
    assert maker(lambda y: F.gelu(torch.ones(2, 3, requires_grad=True) * 2)) is None
    assert maker(lambda y: F.gelu(y).detach()) is None
    assert maker(F.gelu, kept=False) is None
    assert maker(F.gelu, wanted=False) is None


def test_a_copy_of_a_model_in_the_middle_of_a_forward_begins_empty() -> None:
    widened = Widened()
    widened.wanted = True
    widened.keep(torch.ones(2, requires_grad=True) * 2)
    assert copy.deepcopy(widened)._output is None


def test_what_is_made_again_does_not_outlive_the_backward() -> None:
    linear = LoraLinear(
        nn.Linear(6, 4).requires_grad_(False), nn.Parameter(torch.ones(2, 6)), nn.Parameter(torch.ones(4, 2)), 1.0, 0.0
    )
    widened = Widened()
    widened.wanted = True
    output = torch.ones(3, 6, requires_grad=True) * 2
    there = TensorWeakRef(output)
    widened.keep(output)
    x = F.gelu(output)
    (y,) = lora_linears(x, [linear], torch.float32, widened.maker_of(x))
    loss = y.sum()
    del output, x, y
    assert there() is not None
    loss.backward()
    assert there() is None
