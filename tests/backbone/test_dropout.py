"""Quick dropout is dropout: its share, its mean, its gradient, and the same masks when a run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from adapterkit.backbone.dropout import Masks, QuickDropout, draw_seed, mask_like, use_quick_dropout
from tests import tiny


def dropout(probability: float = 0.25) -> QuickDropout:
    layer = nn.Sequential(nn.Dropout(probability))
    use_quick_dropout(layer)
    found = layer[0]
    assert isinstance(found, QuickDropout)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_masks_drop_their_share_keep_the_mean_and_come_again(dtype: torch.dtype) -> None:
    x = torch.empty(200, 500, dtype=dtype)
    mask = mask_like(x, 0.25, 5)
    assert mask.dtype == dtype
    assert sorted(set(mask.flatten().tolist())) == [0.0, pytest.approx(4 / 3, rel=torch.finfo(dtype).eps)]
    # 7 standard deviations of 100,000 draws
    assert float((mask == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert torch.equal(mask, mask_like(x, 0.25, 5))
    assert not torch.equal(mask, mask_like(x, 0.25, 6))


def test_every_place_is_dropped_as_often_as_any_other() -> None:
    """Over 4,000 seeds, so that neither a place within a draw of 64 bits nor a neighbour decides."""
    dropped = torch.stack([mask_like(torch.empty(8), 0.5, seed) == 0 for seed in range(4000)]).float()
    # 5 standard deviations, of a share and of a correlation
    assert torch.allclose(dropped.mean(0), torch.full((8,), 0.5), rtol=0, atol=5 * 0.5 / 4000**0.5)
    assert torch.allclose(torch.corrcoef(dropped.T), torch.eye(8), rtol=0, atol=5 / 4000**0.5)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 40), st.floats(0, 1), st.integers(0, 2**63 - 1))
def test_masks_of_any_size_and_probability_hold_two_values(count: int, probability: float, seed: int) -> None:
    masks = Masks(probability, seed)
    for mask in (masks.next((count,), torch.empty(0)), masks.next((count,), torch.empty(0))):
        assert mask.shape == (count,)
        assert set(mask.tolist()) <= {0.0, *mask[mask != 0][:1].tolist()}
        assert mask.isfinite().all()
    assert torch.equal(mask_like(torch.empty(count), probability, seed), Masks(probability, seed).next((count,), mask))


def test_seeds_follow_the_global_generator() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = [draw_seed() for _ in range(3)]
    torch.set_rng_state(state)
    assert [draw_seed() for _ in range(3)] == first
    assert len(set(first)) == 3


def test_the_gradient_passes_where_the_value_did_and_no_mask_is_kept() -> None:
    x = torch.linspace(1, 2, 600).requires_grad_()
    kept: list[Tensor] = []

    def keep(tensor: Any) -> Any:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = dropout()(x)
    assert kept == []
    (gradient,) = torch.autograd.grad(y, x, torch.full_like(y, 3.0))
    assert torch.allclose(gradient, 3.0 * y.detach() / x.detach())
    assert 0 < (y == 0).sum() < 600


def test_without_training_every_value_stays() -> None:
    x = torch.randn(50)
    state = torch.get_rng_state()
    assert dropout().eval()(x) is x
    assert dropout(0.0)(x) is x
    assert torch.equal(torch.get_rng_state(), state)
    assert not dropout(1.0)(x).any()


def test_a_checkpointed_layer_drops_the_same_again() -> None:
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 8))
    use_quick_dropout(layer)
    x = torch.randn(4, 8)
    state = torch.get_rng_state()
    expected = torch.autograd.grad(layer(x).sum(), tuple(layer.parameters()))
    torch.set_rng_state(state)
    found = torch.autograd.grad(checkpoint(layer, x, use_reentrant=False).sum(), tuple(layer.parameters()))
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("family", [family for family in tiny.FAMILIES if family != "bart"])
def test_trunks_have_no_other_dropout(tiny_backbones: Mapping[str, Any], family: str) -> None:
    """But BART's, which calls torch's function."""
    trunk = tiny_backbones[family].trunk
    assert not [path for path, module in trunk.named_modules() if type(module) is nn.Dropout]
    assert not any(module.training for module in trunk.modules())
