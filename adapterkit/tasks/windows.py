"""Overlapping windows over a sequence that is longer than the model takes."""

from typing import NamedTuple


class Window(NamedTuple):
    """Items [start, stop) are read; items [fresh, stop) are not in any earlier window, so they are counted here."""

    start: int
    stop: int
    fresh: int


def windows_over(count: int, size: int, overlap: int) -> list[Window]:
    """Windows of at most `size` items that cover 0..count, neighbours sharing `overlap` items. Every item is fresh in
    exactly one window. The last window reaches back to be full, so that its fresh items have as much context as the
    others'.

    Raises ValueError: size below 1, or an overlap that leaves no progress.
    """
    if size < 1 or not 0 <= overlap < size:
        raise ValueError(f"windows of {size} items cannot overlap by {overlap}")
    if count <= size:
        return [Window(0, count, 0)]
    found = [Window(0, size, 0)]
    while found[-1].stop < count:
        fresh = found[-1].stop
        stop = min(count, fresh + size - overlap)
        found.append(Window(stop - size, stop, fresh))
    return found


def blocks(count: int, size: int) -> list[Window]:
    """Windows without overlap; the last may be short."""
    return [Window(start, min(count, start + size), start) for start in range(0, max(count, 1), size)]


def middle_owner(found: list[Window], count: int) -> list[int]:
    """For every item, the window in which it is furthest from an edge: the one with most context on both sides."""
    owner = [0] * count
    best = [-1] * count
    for place, window in enumerate(found):
        for item in range(window.start, window.stop):
            left = item - window.start if window.start else count
            right = window.stop - 1 - item if window.stop < count else count
            context = min(left, right)
            if context > best[item]:
                owner[item], best[item] = place, context
    return owner
