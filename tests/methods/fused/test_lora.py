"""LoRA's fused function against gradients by differences, PEFT's layers, and a reference with the same masks."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from adapterkit.backbone.dropout import draw
from adapterkit.methods.fused import lora
from adapterkit.methods.fused.lora import LoraLinear, lora_linears

KINDS = {
    "linear": lambda: nn.Linear(6, 5),
    "linear without bias": lambda: nn.Linear(6, 5, bias=False),
    "Conv1D": lambda: Conv1D(5, 6),
}


def linear_of(kind: str, rank: int, scaling: float, dropout: float = 0.0, dtype: Any = torch.float64) -> LoraLinear:
    base = KINDS[kind]().to(dtype).requires_grad_(False)
    if getattr(base, "bias", None) is not None:
        nn.init.normal_(base.bias)
    a, b = (nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in ((rank, 6), (5, rank)))
    return LoraLinear(base, a, b, scaling, dropout)


def weight_of(base: Any) -> Tensor:
    weight: Tensor = base.weight.T if isinstance(base, Conv1D) else base.weight
    return weight


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_differences(kind: str, dropout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    drawn = draw((2, 4))
    monkeypatch.setattr(lora, "draw", lambda lead: drawn)  # or every evaluation would draw another mask
    linears = [linear_of(kind, 2, 1.0, dropout), linear_of(kind, 3, 0.5, dropout), linear_of(kind, 1, 2.0)]
    factors = [factor for linear in linears for factor in (linear.a, linear.b)]
    x = torch.randn(2, 4, 6, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        return lora_linears(x, linears, torch.float64)

    assert torch.autograd.gradcheck(run, (x, *factors))


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_what_the_equation_says_with_the_same_masks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    draws = [draw((3, 4)), draw((3, 4))]
    left = iter(draws)
    monkeypatch.setattr(lora, "draw", lambda lead: next(left))
    linears = [linear_of(kind, 2, 2.0, 0.3), linear_of(kind, 3, 0.5, 0.5)]
    x = torch.randn(3, 4, 6, dtype=torch.float64, requires_grad=True)
    masks_of = [drawn.mask_like(x.detach(), p) for p, drawn in zip((0.3, 0.5), draws, strict=True)]
    wanted = [*(factor for linear in linears for factor in (linear.a, linear.b)), x]
    outputs = lora_linears(x, linears, torch.float64)
    loss = sum((output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum() for output in outputs)
    found = torch.autograd.grad(loss, wanted)
    expected_outputs = []
    for linear, mask in zip(linears, masks_of, strict=True):
        y = x @ weight_of(linear.base).T + linear.scaling * ((x * mask) @ linear.a.T) @ linear.b.T
        expected_outputs.append(y if linear.base.bias is None else y + linear.base.bias)
    expected_loss = sum((y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum() for y in expected_outputs)
    for one, other in zip(outputs, expected_outputs, strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)
    for one, other in zip(found, torch.autograd.grad(expected_loss, wanted), strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)


def test_nothing_is_kept_but_x_once_and_what_a_makes_of_it() -> None:
    linears = [linear_of("linear", 2, 2.0, dtype=torch.float32) for _ in range(3)]
    x = torch.randn(10, 6)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        lora_linears(x, linears, torch.float32)
    for linear in linears:
        for factor in (linear.a, linear.b):
            kept.pop(factor.untyped_storage().data_ptr(), None)
    # x is 10 x 6, and the three ranks make 10 x 6 numbers.
    assert sorted(kept.values()) == [4 * 10 * 6, 4 * 10 * 6]


def test_an_output_without_a_gradient_leaves_its_factors_without_one() -> None:
    linears = [linear_of("linear", 2, 1.0), linear_of("linear", 2, 1.0)]
    first, _ = lora_linears(torch.randn(3, 6, dtype=torch.float64), linears, torch.float64)
    first.sum().backward()
    assert [linear.a.grad is None for linear in linears] == [False, True]
    assert [linear.b.grad is None for linear in linears] == [False, True]


class ThreeReaders(nn.Module):
    """Query, key and value of an attention."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.query, self.key, self.value = KINDS[kind](), KINDS[kind](), KINDS[kind]()

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.query(x) * torch.tanh(self.key(x)) + self.value(x).square()
        return outputs


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_equal_pefts(kind: str) -> None:
    torch.manual_seed(0)
    config = LoraConfig(
        r=2, lora_alpha=5, target_modules=["query", "key", "value"], fan_in_fan_out=kind == "Conv1D",
        init_lora_weights=False,
    )  # fmt: skip
    model = get_peft_model(ThreeReaders(kind), config)
    inner: Any = copy.deepcopy(model.base_model.model)
    x = torch.randn(4, 3, 6, requires_grad=True)
    model(x).sum().backward()
    expected_x, x.grad = x.grad, None
    linears = [
        LoraLinear(
            layer.base_layer,
            layer.lora_A["default"].weight,
            layer.lora_B["default"].weight,
            layer.scaling["default"],
            0.0,
        )
        for layer in (inner.query, inner.key, inner.value)
    ]
    query, key, value = lora_linears(x, linears, torch.float32)
    (query * torch.tanh(key) + value.square()).sum().backward()
    plain: Any = model.base_model.model
    pairs = [(x.grad, expected_x)]
    for name in ("query", "key", "value"):
        for part in ("lora_A", "lora_B"):
            ours, theirs = (getattr(getattr(m, name), part)["default"].weight.grad for m in (inner, plain))
            pairs.append((ours, theirs))
        assert getattr(inner, name).base_layer.weight.grad is None
    for ours, theirs in pairs:
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-6


def test_bf16_products_round_as_autocast_does() -> None:
    torch.manual_seed(0)
    base = nn.Linear(64, 64).to(torch.bfloat16).requires_grad_(False)
    a, b = nn.Parameter(0.1 * torch.randn(4, 64)), nn.Parameter(0.1 * torch.randn(64, 4))
    x = torch.randn(32, 64)
    (y,) = lora_linears(x, [LoraLinear(base, a, b, 2.0, 0.0)], torch.bfloat16)
    y.float().square().sum().backward()
    exact_x = x.to(torch.bfloat16).float()
    exact = exact_x @ base.weight.float().T + base.bias.float() + 2.0 * exact_x @ a.T @ b.T
    assert y.dtype == torch.bfloat16
    # Eight bits of mantissa, some roundings in a row.
    assert float((y - exact).detach().norm() / exact.detach().norm()) < 0.01
    for found, expected in zip((a.grad, b.grad), torch.autograd.grad(exact.square().sum(), (a, b)), strict=True):
        assert found is not None
        assert found.dtype == torch.float32
        assert float((found - expected).norm() / expected.norm()) < 0.02
