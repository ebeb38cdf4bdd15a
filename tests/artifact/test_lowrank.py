from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterkit.artifact.lowrank import LowRank, concatenated, nearest_of_rank, truncated

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6))


def random(rank, outputs, inputs, seed):
    generator = torch.Generator().manual_seed(seed)
    return LowRank(
        torch.randn(rank, inputs, generator=generator).double(),
        torch.randn(outputs, rank, generator=generator).double(),
    )


@settings(max_examples=60, deadline=None)
@given(
    shape=SHAPES,
    terms=st.lists(st.tuples(st.integers(1, 5), st.floats(-4, 4)), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
def test_a_concatenation_is_the_weighted_sum_of_the_matrices(shape, terms, seed):
    outputs, inputs = shape
    parts = [(weight, random(rank, outputs, inputs, seed + place)) for place, (rank, weight) in enumerate(terms)]
    expected = sum(weight * (part.b @ part.a) for weight, part in parts)
    found = concatenated(parts)
    assert found.rank == sum(rank for rank, _ in terms)
    torch.testing.assert_close(found.matrix(), expected, rtol=0, atol=1e-10)
    assert found.norm() == pytest.approx(float(torch.linalg.norm(expected)), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, rank=st.integers(1, 8), kept=st.integers(1, 8), seed=st.integers(0, 99))
def test_a_truncation_is_the_best_one_there_is(shape, rank, kept, seed):
    whole = random(rank, *shape, seed)
    values = torch.linalg.svdvals(whole.matrix())
    for found in (truncated(whole, kept), nearest_of_rank(whole.matrix(), kept)):
        # Eckart and Young: no matrix of that rank is nearer than the singular values that are left out.
        missed = torch.linalg.norm(found.matrix() - whole.matrix())
        assert float(missed) == pytest.approx(float(torch.linalg.norm(values[kept:])), abs=1e-6)
        assert found.rank <= kept


def test_a_wide_matrix_keeps_its_leading_part():
    matrix = torch.randn(60, 90, generator=torch.Generator().manual_seed(0)).double()
    for whole in (matrix, matrix.T.contiguous()):
        u, s, v = torch.linalg.svd(whole)
        expected = u[:, :4] * s[:4] @ v[:4]
        torch.testing.assert_close(nearest_of_rank(whole, 4).matrix(), expected, rtol=0, atol=1e-9)


def test_nothing_stays_nothing():
    assert not nearest_of_rank(torch.zeros(3, 4).double(), 2).matrix().any()
    assert not truncated(LowRank(torch.zeros(2, 4).double(), torch.zeros(3, 2).double()), 1).matrix().any()


def test_zeros_make_it_wider_and_change_nothing():
    narrow = random(2, 3, 4, seed=0)
    assert narrow.widened(5).rank == 5
    assert torch.equal(narrow.widened(5).matrix(), narrow.matrix())
    assert narrow.widened(2).rank == 2
