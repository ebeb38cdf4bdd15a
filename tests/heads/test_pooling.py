"""Pooling against hand arithmetic."""

from __future__ import annotations

import math

import pytest
import torch

from adapterkit.heads.pooling import AttentionPooling, FixedPooling, pool

# Two rows of four tokens, two features. The first row is padded on the right, the second on the left.
STATES = torch.tensor(
    [
        [[1.0, 10.0], [3.0, 20.0], [900.0, 900.0], [900.0, 900.0]],
        [[900.0, 900.0], [2.0, 2.0], [4.0, 6.0], [6.0, 1.0]],
    ]
)
MASK = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1]])
BY_HAND = {
    "mean": [[2.0, 15.0], [4.0, 3.0]],
    "first": [[1.0, 10.0], [2.0, 2.0]],
    "last": [[3.0, 20.0], [6.0, 1.0]],
}


@pytest.mark.parametrize("pooling", BY_HAND)
def test_pooling_is_what_it_is_by_hand_on_either_side_of_the_padding(pooling: str) -> None:
    assert pool(STATES, MASK, pooling).tolist() == BY_HAND[pooling]
    assert FixedPooling(pooling)(STATES, MASK).tolist() == BY_HAND[pooling]


@pytest.mark.parametrize("pooling", [*BY_HAND, "attention"])
def test_what_stands_in_the_padding_never_counts(pooling: str) -> None:
    module = AttentionPooling(2) if pooling == "attention" else FixedPooling(pooling)
    if pooling == "attention":
        torch.nn.init.ones_(module.score.weight)  # type: ignore[union-attr, arg-type]
    other = STATES.masked_fill(MASK[..., None] == 0, -7.0)
    assert torch.equal(module(STATES, MASK), module(other, MASK))


def test_a_hole_in_the_mask_does_not_count_either() -> None:
    mask = torch.tensor([[1, 0, 1, 0]])
    states = torch.tensor([[[1.0], [50.0], [3.0], [50.0]]])
    assert [pool(states, mask, name).item() for name in ("mean", "first", "last")] == [2.0, 1.0, 3.0]


def test_an_untrained_attention_is_the_mean() -> None:
    assert torch.allclose(AttentionPooling(2)(STATES, MASK), pool(STATES, MASK, "mean"))


def test_attention_is_a_softmax_of_scaled_scores_by_hand() -> None:
    """q = (√2, 0) and D = 2, so the scores are the first features: 0 and ln 3 weigh 1/4 and 3/4."""
    module = AttentionPooling(2)
    with torch.no_grad():
        module.score.weight.copy_(torch.tensor([[math.sqrt(2), 0.0]]))
    states = torch.tensor([[[0.0, 4.0], [math.log(3), 8.0], [5.0, 99.0]]])
    row = module(states, torch.tensor([[1, 1, 0]]))
    assert torch.allclose(row, torch.tensor([[0.75 * math.log(3), 7.0]]))
