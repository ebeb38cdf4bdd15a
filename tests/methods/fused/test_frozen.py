"""Frozen products, laid out or not: outputs and gradients of the plain ones, and the weights as they were."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from adapterkit.methods.fused import frozen, put_on, take_off
from adapterkit.recipe import BottleneckMethod, LoraMethod
from tests import tiny
from tests.methods.cases import attached, disturb, hidden

METHODS = {
    "query and value": LoraMethod(rank=4),
    "all linears": LoraMethod(sites="all-linear", rank=4, dropout=0.0),
    "dora": LoraMethod(sites="all-linear", rank=4, dora=True),
    "pfeiffer": BottleneckMethod(placement="pfeiffer", width=4),
}
KINDS = {
    "linear": lambda: nn.Linear(6, 4),
    "linear without bias": lambda: nn.Linear(6, 4, bias=False),
    "Conv1D": lambda: Conv1D(4, 6),
}
LAYOUTS = [
    "plain",
    pytest.param("packed", marks=pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN")),  # type: ignore[no-untyped-call]
]


@pytest.fixture
def layouts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every frozen product is laid out, or none is, however small it is."""
    monkeypatch.setattr(frozen, "pays", lambda *_: request.param == "packed")


def linear_of(kind: str) -> Any:
    torch.manual_seed(0)
    linear = KINDS[kind]().requires_grad_(False)
    if linear.bias is not None:
        nn.init.normal_(linear.bias)
    return linear


def passed(linear: Any, x: Tensor, seen: slice) -> tuple[Tensor, Tensor]:
    """The output, and the gradient of x where only some tokens of each row count."""
    x = x.clone().requires_grad_()
    y = linear(x)
    (y[:, seen] * torch.linspace(-1, 1, y[:, seen].numel()).view_as(y[:, seen])).sum().backward()
    assert x.grad is not None
    return y.detach(), x.grad


@pytest.mark.parametrize("layouts", LAYOUTS, indirect=True)
@pytest.mark.parametrize("seen", [slice(None), slice(1)], ids=["every token", "the first token"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_linear_gives_what_its_class_gives(layouts: None, kind: str, seen: slice) -> None:
    linear = linear_of(kind)
    plain, x = copy.deepcopy(linear), torch.randn(3, 5, 6)
    linear.forward = frozen.Frozen(linear)
    for found, expected in zip(passed(linear, x, seen), passed(plain, x, seen), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    with torch.inference_mode():
        torch.testing.assert_close(linear(x), plain(x), rtol=1e-6, atol=1e-6)
    assert torch.equal(linear.weight, plain.weight)


def test_rows_without_gradient_are_found_and_no_others() -> None:
    g = torch.zeros(64, 16)
    g[3, 9], g[40] = 1.0, 2.0
    assert frozen.rows_with_gradient(g).tolist() == [3, 40]  # type: ignore[union-attr]
    assert frozen.rows_with_gradient(torch.zeros(4, 3)).tolist() == []  # type: ignore[union-attr]
    g[:, 5] = torch.arange(64) % 2  # half of the rows, and the one row more
    assert frozen.rows_with_gradient(g) is None


@pytest.mark.parametrize("layouts", LAYOUTS, indirect=True)
def test_weights_that_are_exchanged_or_trained_are_seen(layouts: None) -> None:
    linear, x = linear_of("linear"), torch.randn(2, 3, 6)
    linear.forward = frozen.Frozen(linear)
    linear(x)
    linear.weight.data = torch.randn(4, 6)
    torch.testing.assert_close(linear(x), nn.functional.linear(x, linear.weight, linear.bias), rtol=1e-6, atol=1e-6)
    linear.bias.requires_grad_(True)
    linear(x).sum().backward()
    assert linear.bias.grad.tolist() == [6.0] * 4


@pytest.mark.parametrize("layouts", ["packed"], indirect=True)
def test_copies_and_pickles_have_layouts_of_their_own(layouts: None) -> None:
    linear, x = linear_of("linear"), torch.randn(2, 6)
    linear.forward = frozen.Frozen(linear)
    expected = linear(x)
    for other in (copy.deepcopy(linear), pickle.loads(pickle.dumps(linear))):
        assert vars(other)["forward"].linear is other
        assert torch.equal(other(x), expected)


@pytest.mark.parametrize("layouts", LAYOUTS, indirect=True)
@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("name", METHODS)
def test_gradients_are_those_of_plain_products(layouts: None, tiny_backbones: Any, family: str, name: str) -> None:
    backbone = tiny_backbones[family]
    before = {path: tensor.clone() for path, tensor in backbone.trunk.state_dict().items()}
    with attached(backbone, METHODS[name]) as attachment:
        disturb(attachment, 0.1)
        plain = gradients(backbone, family, attachment)
        put_on(backbone.trunk, backbone.known_sites.sites)
        found = gradients(backbone, family, attachment)
        take_off(backbone.trunk, backbone.known_sites.sites)
    assert plain.keys() == found.keys()
    whole = torch.stack([gradient.norm() for gradient in plain.values()]).norm()
    for path, expected in plain.items():
        # As for the fused functions: sums in another order, through up to four layers.
        assert float((found[path] - expected).norm()) < 1e-5 * float(expected.norm()) + 1e-6 * float(whole), path
    assert all(torch.equal(tensor, before[path]) for path, tensor in backbone.trunk.state_dict().items())
    assert not any(isinstance(vars(m).get("forward"), frozen.Frozen) for m in backbone.trunk.modules())


def gradients(backbone: Any, family: str, attachment: Any) -> dict[str, Tensor]:
    """Of a loss that reads the first token of each row alone, as a family's head does."""
    for parameter in attachment.parameters().values():
        parameter.grad = None
    answer = hidden(backbone.trunk, family)[:, 0]
    (answer * torch.linspace(-1, 1, answer.numel()).view_as(answer)).sum().backward()
    return {path: p.grad.clone() for path, p in attachment.parameters().items() if p.grad is not None}
