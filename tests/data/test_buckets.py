"""Batches of similar length: laws over sizes and budgets."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterkit.data import group_by_length, shard

LENGTHS = random.Random(0).choices(range(3, 121), k=1_000)
LIMITS = [{"batch_size": 1}, {"batch_size": 32}, {"batch_size": 5_000}, {"batch_tokens": 50}, {"batch_tokens": 2_048}]


@given(
    lengths=st.lists(st.integers(0, 60), max_size=200),
    limit=st.one_of(
        st.fixed_dictionaries({"batch_size": st.integers(1, 40)}),
        st.fixed_dictionaries({"batch_tokens": st.integers(1, 400)}),
    ),
    seed=st.integers(0, 5),
    shuffle=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_every_row_stands_in_exactly_one_batch_and_no_batch_breaks_its_limit(lengths, limit, seed, shuffle):
    batches = group_by_length(lengths, **limit, seed=seed, shuffle=shuffle)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert batch
        assert len(batch) <= limit.get("batch_size", len(lengths))
        places = len(batch) * max(lengths[index] for index in batch)
        assert len(batch) == 1 or places <= limit.get("batch_tokens", places)


@pytest.mark.parametrize("limit", LIMITS)
def test_the_plan_follows_from_seed_and_epoch(limit):
    def plan(seed, epoch):
        return group_by_length(LENGTHS, **limit, seed=seed, epoch=epoch)

    assert plan(0, 0) == plan(0, 0)
    assert plan(0, 0) != plan(0, 1)
    assert plan(0, 0) != plan(1, 0)


def test_the_plan_is_the_same_on_every_machine():
    assert group_by_length([1, 2, 3, 4, 5, 6, 7, 8], batch_size=2, seed=1, epoch=2) == [[2, 0], [4, 3], [7, 1], [6, 5]]


@pytest.mark.parametrize("limit", LIMITS)
def test_without_shuffling_the_longest_come_first(limit):
    batches = group_by_length(LENGTHS, **limit, shuffle=False)
    order = [index for batch in batches for index in batch]
    assert order == sorted(range(1_000), key=lambda index: (-LENGTHS[index], index))


def test_little_of_a_batch_is_padding():
    def padded_share(lengths, batches):
        places = sum(len(batch) * max(lengths[index] for index in batch) for batch in batches)
        return 1 - sum(lengths) / places

    scattered = [list(range(start, min(start + 32, 1_000))) for start in range(0, 1_000, 32)]
    assert padded_share(LENGTHS, scattered) > 0.4
    assert padded_share(LENGTHS, group_by_length(LENGTHS, batch_size=32)) < 0.15
    assert padded_share(LENGTHS, group_by_length(LENGTHS, batch_tokens=2_048)) < 0.15


def test_batches_of_short_and_long_rows_are_mixed():
    first = [LENGTHS[batch[0]] for batch in group_by_length(LENGTHS, batch_size=32)]
    falls = sum(a > b for a, b in pairwise(first))
    assert 5 < falls < len(first) - 5


def test_batches_are_as_few_as_the_size_allows():
    assert len(group_by_length(LENGTHS, batch_size=32)) == 32  # 31.25 rounded up
    assert len(group_by_length([], batch_size=32)) == 0


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_processes_share_one_global_batch(processes):
    for batch in group_by_length(LENGTHS, batch_size=32):
        parts = [shard(batch, process, processes) for process in range(processes)]
        assert sorted(index for part in parts for index in part) == sorted(batch)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_batch_smaller_than_the_processes_leaves_some_without_rows():
    assert [shard([7], process, 2) for process in range(2)] == [[7], []]


@pytest.mark.parametrize("limit", [{}, {"batch_size": 2, "batch_tokens": 9}, {"batch_size": 0}, {"batch_tokens": -1}])
def test_one_limit_of_at_least_one_is_needed(limit):
    with pytest.raises(ValueError, match="batch_size"):
        group_by_length([1, 2], **limit)


def test_a_process_outside_the_count_is_refused():
    with pytest.raises(ValueError, match="process 2 of 2"):
        shard([1], 2, 2)
