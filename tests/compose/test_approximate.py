"""Against the papers' formulas, written out entry by entry."""

from __future__ import annotations

import pytest
import torch
from peft.utils import merge_utils

from adapterkit.compose.approximate import dare, magnitude, mask_seed, ties, trim


def ties_by_the_paper(deltas, scale, share):
    """Algorithm 1 of Yadav et al. 2023 for one parameter after the other: trim, elect, merge the agreeing."""
    kept = []
    for delta in deltas:
        flat = delta.flatten().tolist()
        count = int(share * len(flat))
        threshold = sorted((abs(value) for value in flat), reverse=True)[count - 1]
        kept.append([value if abs(value) >= threshold else 0.0 for value in flat])
    merged = []
    for values in zip(*kept, strict=True):
        positive = sum(value for value in values if value > 0)
        negative = -sum(value for value in values if value < 0)
        agreeing = [v for v in values if (v > 0 if positive > negative else v < 0)]
        merged.append(scale * sum(agreeing) / len(agreeing) if agreeing else 0.0)
    return torch.tensor(merged, dtype=torch.float64).view_as(deltas[0])


def random(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(4, 5, generator=generator, dtype=torch.float64) for _ in range(count)]


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_ties_with_equal_weights_is_the_papers(scale, share):
    deltas = random(3)
    expected = ties_by_the_paper(deltas, scale, share)
    torch.testing.assert_close(ties(deltas, [scale / 3] * 3, share), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_pefts_functions_agree(share):
    deltas, equal = random(3, seed=1), torch.tensor([1 / 3] * 3, dtype=torch.float64)
    torch.testing.assert_close(ties(deltas, [1 / 3] * 3, share), merge_utils.ties(deltas, torch.ones(3), share))
    torch.testing.assert_close(magnitude(deltas, [1 / 3] * 3, share), merge_utils.magnitude_prune(deltas, equal, share))


def test_ties_by_hand():
    first, second = torch.tensor([[3.0, -1.0, 2.0, 1.0]]), torch.tensor([[1.0, 2.0, -4.0, 1.0]])
    # Half of the entries are kept: 3, 2 of the first; 2, -4 of the second. The third entry: 2 - 4 is negative, so -4
    # stays alone. Each mean is over those that agree, times the sum of the weights, 2.
    assert ties([first, second], [1.0, 1.0], 0.5).tolist() == [[6.0, 4.0, -8.0, 0.0]]


def test_ties_weighs_the_election_and_the_mean():
    deltas = [torch.tensor([[1.0, 1.0]]), torch.tensor([[-2.0, 3.0]])]
    # 3·1 beats 1·2, so the first is alone there: (3 + 1)·(3·1)/3 = 4. Where both agree, the sum: 3·1 + 1·3.
    assert ties(deltas, [3.0, 1.0], 1.0).tolist() == [[4.0, 6.0]]
    assert ties(deltas, [-3.0, -1.0], 1.0).tolist() == [[-4.0, -6.0]]


def test_trimming_keeps_the_largest():
    assert trim(torch.tensor([[1.0, -5.0], [3.0, 2.0]]), 0.5).tolist() == [[0.0, -5.0], [3.0, 0.0]]
    assert trim(torch.tensor([[1.0, -5.0], [3.0, 2.0]]), 0.01).tolist() == [[0.0, -5.0], [0.0, 0.0]]


def test_magnitude_pruning_sums_what_is_left():
    deltas = [torch.tensor([[1.0, -4.0]]), torch.tensor([[3.0, 2.0]])]
    assert magnitude(deltas, [0.5, 2.0], 0.5).tolist() == [[6.0, -2.0]]


def test_dare_keeps_an_entry_or_drops_it_and_makes_up_for_the_dropped():
    (delta,) = random(1)
    found = dare([delta], [1.0], 0.25, [7])
    # Yu et al. 2024: m ~ Bernoulli(1 - p), δ̂ = m·δ / (1 - p).
    kept = torch.rand(delta.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64) < 0.25
    assert torch.equal(found, torch.where(kept, delta / 0.25, torch.zeros_like(delta)))


def test_dare_is_right_on_average():
    deltas, weights = random(2), [0.7, -0.3]
    rounds = [dare(deltas, weights, 0.5, [2 * seed, 2 * seed + 1]) for seed in range(2000)]
    expected = 0.7 * deltas[0] - 0.3 * deltas[1]
    # One entry is off by at most |δ|·√((1-d)/d)/√2000, some 0.06; four times that is far out.
    torch.testing.assert_close(torch.stack(rounds).mean(0), expected, rtol=0, atol=0.2)


def test_masks_are_the_same_in_any_order_and_others_for_others():
    seeds = {mask_seed(seed, member, place) for seed in (0, 1) for member in "ab" for place in ("x", "y")}
    assert len(seeds) == 8
    assert mask_seed(0, "a", "x") == mask_seed(0, "a", "x")
