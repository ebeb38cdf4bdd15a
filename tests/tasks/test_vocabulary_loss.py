"""The loss over a vocabulary against torch's own, in value, gradient and what is kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as some

from adapterkit.tasks import losses
from adapterkit.tasks.losses import vocabulary_cross_entropy


def drawn(tokens: int, words: int, seed: int = 0, size: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = size * torch.randn(tokens, words, generator=generator)
    return logits, torch.randint(0, words, (tokens,), generator=generator)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    tokens=some.integers(0, 9),
    words=some.integers(1, 40),
    at_once=some.integers(1, 200),
    smoothing=some.sampled_from([0.0, 0.1, 0.7]),
    size=some.sampled_from([0.0, 1.0, 60.0]),
)
def test_value_and_gradient_are_torchs_in_double_precision(
    tokens: int, words: int, at_once: int, smoothing: float, size: float
) -> None:
    logits, target = drawn(tokens, words, tokens + words, size)
    exact = logits.double().requires_grad_()
    expected = F.cross_entropy(exact, target, label_smoothing=smoothing, reduction="sum")
    (wanted,) = torch.autograd.grad(0.25 * expected, exact)
    before = losses._AT_ONCE["cpu"]
    losses._AT_ONCE["cpu"] = at_once
    try:
        own = logits.clone().requires_grad_()
        found = vocabulary_cross_entropy(own, target, smoothing)
        (gradient,) = torch.autograd.grad(0.25 * found, own)
    finally:
        losses._AT_ONCE["cpu"] = before
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5, abs=1e-5)
    torch.testing.assert_close(gradient, wanted.float(), rtol=1e-4, atol=1e-6)
    assert torch.equal(own, logits)


def test_narrow_logits_are_summed_in_fp32_and_give_narrow_gradients() -> None:
    logits, target = drawn(64, 500)
    narrow = logits.bfloat16().requires_grad_()
    found = vocabulary_cross_entropy(narrow, target)
    exact = narrow.detach().double().requires_grad_()
    expected = F.cross_entropy(exact, target, reduction="sum")
    assert found.dtype == torch.float32
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    found.backward()
    expected.backward()
    assert narrow.grad is not None
    assert exact.grad is not None
    assert narrow.grad.dtype == torch.bfloat16
    torch.testing.assert_close(narrow.grad.double(), exact.grad, rtol=2**-7, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_logits_and_a_number_for_each_token_are_all_that_is_kept(dtype: torch.dtype) -> None:
    logits, target = drawn(32, 1000)
    own = logits.to(dtype).requires_grad_()
    kept: dict[int, int] = {}

    def note(tensor: Any) -> Any:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        vocabulary_cross_entropy(own, target)
    assert sum(kept.values()) == 32 * 1000 * dtype.itemsize + 32 * 8 + 32 * 4


def test_a_value_that_is_not_finite_is_not_hidden() -> None:
    logits, target = drawn(3, 5)
    logits[1, 2] = float("nan")
    assert torch.isnan(vocabulary_cross_entropy(logits, target))
