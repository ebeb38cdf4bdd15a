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

from adapterkit.backbone.attention import drops_by_function
from adapterkit.backbone.dropout import Draw, QuickDropout, draw, note_packed, rows_draw, use_quick_dropout
from tests import tiny


def dropout(probability: float = 0.25) -> QuickDropout:
    layer = nn.Sequential(nn.Dropout(probability))
    use_quick_dropout(layer)
    found = layer[0]
    assert isinstance(found, QuickDropout)
    return found


def mask_like(x: Tensor, probability: float, seed: int) -> Tensor:
    return Draw(seed, draw(x.shape[:-1]).numbers).mask_like(x, probability)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_masks_drop_their_share_keep_the_mean_and_come_again(dtype: torch.dtype) -> None:
    x = torch.empty(200, 500, dtype=dtype)
    mask = mask_like(x, 0.25, 5)
    assert mask.dtype == dtype
    assert sorted(set(mask.flatten().tolist())) == [0.0, pytest.approx(4 / 3, rel=torch.finfo(dtype).eps)]
    # 7 standard deviations of 100,000 draws
    assert float((mask == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert torch.equal(mask, mask_like(x, 0.25, 5))
    assert not torch.equal(mask, mask_like(x, 0.25, 6))


def test_every_place_is_dropped_as_often_as_any_other_whatever_happens_to_its_neighbours() -> None:
    """Over 4,000 seeds: two tokens of four values, so that neither a place in a token, nor a neighbour, nor the same
    place of another token decides."""
    dropped = torch.stack([mask_like(torch.empty(2, 4), 0.5, seed).flatten() == 0 for seed in range(4000)]).float()
    # 5 standard deviations, of a share and of a correlation
    assert torch.allclose(dropped.mean(0), torch.full((8,), 0.5), rtol=0, atol=5 * 0.5 / 4000**0.5)
    assert torch.allclose(torch.corrcoef(dropped.T), torch.eye(8), rtol=0, atol=5 / 4000**0.5)


def test_sums_over_a_batch_vary_as_they_do_when_every_value_is_drawn_by_itself() -> None:
    """What tokens have in common, since they read one table, adds nothing that a gradient would see: the variance of
    2,000 sums over 1,000 tokens, each 0 or 2 with equal odds, is 1,000."""
    masks = torch.stack([mask_like(torch.empty(1000, 32), 0.5, 7 * seed) for seed in range(2000)])
    sums = masks.sum(1)
    # 5 standard errors of a variance of 2,000 × 32 sums
    assert float(sums.var()) == pytest.approx(1000, rel=5 * (2 / 64_000) ** 0.5)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 40), st.integers(1, 9), st.floats(0, 1), st.integers(0, 2**63 - 1))
def test_masks_of_any_size_and_probability_hold_two_values(
    tokens: int, width: int, probability: float, seed: int
) -> None:
    mask = mask_like(torch.empty(tokens, width), probability, seed)
    assert mask.shape == (tokens, width)
    assert set(mask.flatten().tolist()) <= {0.0, *mask[mask != 0][:1].tolist()}
    assert mask.isfinite().all()


def test_seeds_follow_the_global_generator() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = [draw((2,)).seed for _ in range(3)]
    torch.set_rng_state(state)
    assert [draw((2,)).seed for _ in range(3)] == first
    assert len(set(first)) == 3


def test_a_row_drops_the_same_wherever_it_stands() -> None:
    """In a batch of four rows of six tokens, and in one of two with less padding; and by heads, for attention."""
    x, heads = torch.empty(4, 6, 5), torch.empty(4, 3, 6, 6)
    with rows_draw(9, [0, 1, 2, 3]):
        whole, of_heads = draw(x.shape[:-1]).mask_like(x, 0.5), draw(heads.shape[:-1]).mask_like(heads, 0.5)
    with rows_draw(9, [1, 3]):
        some, short = draw((2, 4)).mask_like(torch.empty(2, 4, 5), 0.5), torch.empty(2, 3, 4, 4)
        assert torch.equal(some, whole[[1, 3], :4])
        assert torch.equal(draw((2, 3, 4)).mask_like(short, 0.5), of_heads[[1, 3], :, :4, :4])
    with rows_draw(10, [1, 3]):
        assert not torch.equal(draw((2, 4)).mask_like(torch.empty(2, 4, 5), 0.5), some)


def test_the_choices_of_a_row_drop_each_by_itself_and_the_same_wherever_the_row_stands() -> None:
    x = torch.empty(6, 4, 8)  # 3 rows of 2 choices
    with rows_draw(9, [0, 1, 2]):
        whole = draw((6, 4)).mask_like(x, 0.5)
    with rows_draw(9, [2]):
        assert torch.equal(draw((2, 4)).mask_like(x[:2], 0.5), whole[4:])
    assert len({str(one.tolist()) for one in whole}) == 6


def test_a_packed_row_drops_what_it_drops_padded() -> None:
    """Rows of 3 and 2 tokens, the longer one first, and two documents that share a row keep their places in it."""
    source = torch.tensor([4, 5, 6, 0, 1])
    with rows_draw(9, [5, 6]):
        padded = draw((2, 4)).mask_like(torch.empty(2, 4, 8), 0.5).flatten(0, 1)
        heads = draw((2, 2, 4)).masks(3, 0.5, padded)[:].transpose(1, 2).flatten(0, 1)
    with rows_draw(9, [5, 6]):
        note_packed(source, (2, 4))
        assert torch.equal(draw((1, 5)).mask_like(torch.empty(1, 5, 8), 0.5)[0], padded[source])
        assert torch.equal(draw((1, 2, 5)).masks(3, 0.5, padded)[:][0].transpose(0, 1), heads[source])


def dropped(x: Tensor, training: bool) -> Tensor:
    return nn.functional.dropout(x, p=0.5, training=training)


def test_functions_of_torch_drop_by_row_too() -> None:
    """As BART's layers call them; and as Bloom's do, by a function beside the layer."""

    class Calling(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.dropout(x, p=0.5, training=self.training)

    class CallingAnother(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return dropped(x, self.training)

    calling, layer, x = Calling(), dropout(0.5), torch.randn(2, 3, 4)
    for model in (calling, CallingAnother(), layer):
        with rows_draw(3, [0, 1], drops_by_function(model)):
            both = model(x)
        with rows_draw(3, [1], drops_by_function(model)):
            assert torch.equal(model(x[1:]), both[1:])
    with rows_draw(3, [0, 1], drops_by_function(calling)):
        assert calling.eval()(x) is x


def test_the_gradient_passes_where_the_value_did_and_no_mask_is_kept() -> None:
    x = torch.linspace(1, 2, 600).view(20, 30).requires_grad_()
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


def test_weights_of_attention_that_is_written_out_drop_by_row_too(tiny_backbones: Mapping[str, Any]) -> None:
    """Gemma 2's, whose layers find transformers' function for it by a config."""
    trunk = tiny_backbones["gemma-2"].twin().trunk.train()
    ids = torch.randint(10, 60, (3, 6), generator=torch.Generator().manual_seed(0))
    assert trunk.config._attn_implementation == "eager"
    with torch.no_grad():
        with rows_draw(3, [0, 1, 2], drops_by_function(trunk)):
            every = trunk(input_ids=ids).last_hidden_state
        with rows_draw(3, [2], drops_by_function(trunk)):
            alone = trunk(input_ids=ids[2:]).last_hidden_state
        trunk.eval()
        without = trunk(input_ids=ids).last_hidden_state
    assert torch.allclose(alone, every[2:], atol=1e-5)
    assert not torch.allclose(without, every, atol=1e-2)


@pytest.mark.parametrize("family", [family for family in tiny.FAMILIES if family != "bart"])
def test_trunks_have_no_other_dropout(tiny_backbones: Mapping[str, Any], family: str) -> None:
    """But BART's, which calls torch's function."""
    trunk = tiny_backbones[family].trunk
    assert not [path for path, module in trunk.named_modules() if type(module) is nn.Dropout]
    assert not any(module.training for module in trunk.modules())
