from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterkit.tasks.encoding import blocks, middle_owner, windows_over


@given(st.integers(0, 400), st.integers(1, 60), st.data())
def test_every_item_is_fresh_once_and_every_window_fits(count: int, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    found = windows_over(count, size, overlap)
    assert [item for window in found for item in range(window.fresh, window.stop)] == list(range(count))
    for before, window in itertools.pairwise(found):
        assert window.fresh - window.start >= overlap
        assert before.start < window.start
    assert all(window.stop - window.start == min(size, count) for window in found)


@given(st.integers(0, 200), st.integers(1, 30), st.data())
def test_every_item_has_an_owner_that_holds_it(count: int, size: int, data: st.DataObject) -> None:
    found = windows_over(count, size, data.draw(st.integers(0, size - 1)))
    for item, place in enumerate(middle_owner(found, count)):
        assert found[place].start <= item < found[place].stop


@given(st.integers(0, 200), st.integers(1, 30))
def test_blocks_cover_without_overlap(count: int, size: int) -> None:
    assert [item for block in blocks(count, size) for item in range(block.start, block.stop)] == list(range(count))


def test_the_owner_is_the_window_with_more_context() -> None:
    # Windows 0-5 and 2-7 of eight items: 0-3 are further from an edge in the first, 4-7 in the second.
    assert middle_owner(windows_over(8, 6, 2), 8) == [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (4, 4), (4, -1)])
def test_windows_that_cannot_move_on_are_refused(size: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="cannot overlap"):
        windows_over(9, size, overlap)
