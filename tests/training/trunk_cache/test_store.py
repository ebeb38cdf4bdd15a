"""Rows on the disk: what comes back is what was written, whatever happens to the files."""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterkit.training.trunk_cache import segment as segments
from adapterkit.training.trunk_cache.listing import entries, prune
from adapterkit.training.trunk_cache.store import StateStore
from tests.training.trunk_cache.rows import WIDTH, assert_right, filled, found, key, segment_file, space, states


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_rows_come_back_in_any_order_and_padded_with_zeros(tmp_path: Path, dtype: str) -> None:
    of = space(dtype=dtype)
    filled(tmp_path, range(10), of)
    store = StateStore(tmp_path, of)
    assert len(store) == 10
    batch, empty = store.gather(store.find([key(7), key(1), key(99), key(7)]), 4)
    assert empty == [2]
    assert batch.dtype == getattr(torch, dtype)
    assert batch[:, :, 0].tolist() == [[7, 7, 7, 0], [1, 1, 0, 0], [0, 0, 0, 0], [7, 7, 7, 0]]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 60), max_size=8), max_size=5), st.lists(st.integers(0, 60), max_size=20))
def test_rows_of_any_segments_come_back_in_any_batch(
    tmp_path_factory: Any, written: list[list[int]], read: list[int]
) -> None:
    root = tmp_path_factory.mktemp("any")
    for numbers in written:
        filled(root, numbers)
    store = StateStore(root, space())
    assert set(found(store, read)) == set(read) & {number for numbers in written for number in numbers}
    assert_right(store, read)


def test_pooled_rows_come_back_in_one_gather(tmp_path: Path) -> None:
    store = StateStore(tmp_path, space(pooling="mean"))
    for number in range(6):
        store.add(key(number), torch.full((1, WIDTH), float(number)))
    store.flush()
    batch, _ = StateStore(tmp_path, space(pooling="mean")).gather(store.find([key(5), key(0), key(3)]), 1)
    assert batch[:, 0, 0].tolist() == [5, 0, 3]


@pytest.mark.parametrize(
    "changes",
    [
        {"fingerprint": "e" * 64},
        {"tokenizer": "u" * 64},
        {"layer": 1},
        {"pooling": "mean"},
        {"dtype": "bfloat16"},
        {"computed_in": ("torch.float32", "torch.bfloat16")},
        {"attention": "eager"},
        {"device": "cuda"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_states_of_anything_else_are_never_found(tmp_path: Path, changes: dict[str, Any]) -> None:
    filled(tmp_path, range(5))
    assert len(StateStore(tmp_path, space(**changes))) == 0


def test_the_backbones_name_does_not_count(tmp_path: Path) -> None:
    filled(tmp_path, range(5))
    assert len(StateStore(tmp_path, space(backbone="/another/path/to/the/same"))) == 5


def test_two_writers_at_once_see_what_the_other_wrote(tmp_path: Path) -> None:
    one, other = StateStore(tmp_path, space()), StateStore(tmp_path, space())
    for store, numbers in ((one, range(6)), (other, range(3, 9))):
        for number in numbers:
            store.add(key(number), states(number))
        store.flush()
    one.refresh()
    other.refresh()
    for store in (one, other, StateStore(tmp_path, space())):
        assert found(store, range(12)) == list(range(9))
        assert_right(store, range(12))


@pytest.mark.parametrize("kept", [0, 7, 20, 100, -1])
def test_a_segment_that_is_cut_short_is_not_read(tmp_path: Path, kept: int) -> None:
    path = segment_file(filled(tmp_path, range(20)))
    path.write_bytes(path.read_bytes()[:kept])
    assert len(StateStore(tmp_path, space())) == 0
    assert_right(filled(tmp_path, range(20)), range(20))
    assert found(StateStore(tmp_path, space()), range(20)) == list(range(20))


def test_every_changed_byte_costs_a_row_or_the_segment_and_never_gives_a_wrong_one(tmp_path: Path) -> None:
    path = segment_file(filled(tmp_path, range(8)))
    whole = path.read_bytes()
    for place in random.Random(0).sample(range(len(whole)), 120):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        store = StateStore(tmp_path, space())
        assert len(found(store, range(8))) in (0, 7, 8)
        assert_right(store, range(8))
        path.write_bytes(whole)


def test_a_row_whose_bytes_changed_is_written_anew(tmp_path: Path) -> None:
    path = segment_file(filled(tmp_path, range(8)))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\xff")
    store = StateStore(tmp_path, space())
    assert found(store, range(8)) == list(range(7))
    store.add(key(7), states(7))
    store.flush()
    assert found(store, range(8)) == list(range(8))
    assert_right(store, range(8))


def write_until_killed(root: Path, begun: int) -> None:
    """In a child process: a store that writes a segment for every three rows, without end."""
    store = StateStore(root, space())
    os.write(begun, b".")
    for number in range(10**9):
        store.add(key(number), states(number))
        if number % 3 == 2:
            store.flush()


def test_killed_twenty_times_while_writing_no_row_is_wrong(tmp_path: Path) -> None:
    chance = random.Random(0)
    ready, begun = os.pipe()
    for _ in range(20):
        child = os.fork()
        if child == 0:
            try:
                write_until_killed(tmp_path, begun)
            finally:
                os._exit(1)
        os.read(ready, 1)
        time.sleep(chance.uniform(0.0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    os.close(ready)
    os.close(begun)
    store = StateStore(tmp_path, space())
    numbers = range(200)
    assert found(store, numbers)
    assert_right(store, numbers)
    assert all(path.suffix in (".rows", ".json", ".part") for path in store.folder.iterdir())


class FullDisk:
    """A file that takes so many bytes and then says that the disk is full."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self._room = file, room

    def write(self, content: Any) -> int:
        self._room -= len(bytes(content))
        if self._room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(self._file.write(content))

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_a_full_disk_ends_the_writing_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, range(4))
    opened = open
    limited = lambda path, mode: FullDisk(opened(path, mode), 100) if "x" in mode else opened(path, mode)  # noqa: E731
    monkeypatch.setattr(segments, "open", limited, raising=False)
    store = filled(tmp_path, range(4, 40))
    assert "No space left" in store.refusal
    store.add(key(99), states(99))
    store.flush()
    monkeypatch.undo()
    assert found(StateStore(tmp_path, space()), range(100)) == [0, 1, 2, 3]
    assert not list(store.folder.glob(".*.part"))


def test_a_disk_that_cannot_be_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path, range(4))

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(os, "rename", refuse)
    store = filled(tmp_path, range(4, 8))
    assert "Read-only" in store.refusal
    assert found(store, range(8)) == [0, 1, 2, 3]
    assert_right(store, range(8))


def test_a_folder_that_cannot_be_made_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = filled(tmp_path / "file", range(4))
    assert store.refusal
    assert found(store, range(4)) == []


def test_leftovers_of_killed_writers_go_after_a_day(tmp_path: Path) -> None:
    store = filled(tmp_path, range(4))
    old, new = store.folder / ".old.part", store.folder / ".new.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    StateStore(tmp_path, space())
    assert (old.exists(), new.exists()) == (False, True)


def test_the_list_shows_what_is_kept_and_pruning_takes_the_oldest(tmp_path: Path) -> None:
    for layer, days in ((1, 30), (2, 10), (3, 0)):
        store = filled(tmp_path, range(layer * 2), space(layer=layer))
        used = time.time() - days * 86_400
        os.utime(store.folder / "space.json", (used, used))
    listed = entries(tmp_path)
    assert [(entry.backbone, entry.layer, entry.rows) for entry in listed] == [
        ("tiny", 3, 6),
        ("tiny", 2, 4),
        ("tiny", 1, 2),
    ]
    assert all(entry.size_bytes > 100 for entry in listed)
    assert [entry.layer for entry in prune(tmp_path, older_than_days=20)] == [1]
    assert [entry.layer for entry in prune(tmp_path, max_bytes=listed[0].size_bytes)] == [2]
    assert [entry.layer for entry in prune(tmp_path)] == []
    assert [entry.layer for entry in prune(tmp_path, everything=True)] == [3]
    assert entries(tmp_path) == []
    assert entries(tmp_path / "nowhere") == []


def test_a_row_that_was_damaged_and_written_again_is_found_in_every_later_run(tmp_path: Path) -> None:
    for turn in range(6):  # whichever segment is read first
        root = tmp_path / str(turn)
        path = segment_file(filled(root, range(3)))
        raw = bytearray(path.read_bytes())
        raw[-4:] = b"\xff" * 4  # of the last row
        path.write_bytes(raw)
        store = StateStore(root, space())
        assert found(store, range(3)) == [0, 1]
        store.add(key(2), states(2))
        store.flush()
        for later in (store, StateStore(root, space())):
            assert found(later, range(3)) == [0, 1, 2]
            assert_right(later, range(3))
