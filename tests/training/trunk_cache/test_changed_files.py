"""Rows on the disk where files are not what they were: cut short, replaced, forged, or a stranger's."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from adapterkit.training.trunk_cache import segment as segments
from adapterkit.training.trunk_cache import store as stores
from adapterkit.training.trunk_cache.listing import entries
from adapterkit.training.trunk_cache.store import StateStore
from tests.training.trunk_cache.rows import WIDTH, assert_right, filled, found, key, segment_file, space


def pooled(root: Path) -> StateStore:
    store = StateStore(root, space(pooling="mean"))
    for number in range(6):
        store.add(key(number), torch.full((1, WIDTH), float(number)))
    store.flush()
    return store


@pytest.mark.parametrize("in_memory", [True, False])
def test_vectors_come_from_memory_or_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    monkeypatch.setattr(stores, "VECTOR_BYTES", 1 << 20 if in_memory else 0)
    path = segment_file(pooled(tmp_path))
    store = StateStore(tmp_path, space(pooling="mean"))
    rows = store.find([key(5), key(0), key(3)])
    os.truncate(path, 100)
    batch, empty = store.gather(rows, 1)
    assert batch[:, 0, 0].tolist() == ([5, 0, 3] if in_memory else [0, 0, 0])
    assert empty == ([] if in_memory else [0, 1, 2])


def test_a_file_that_is_cut_short_while_it_is_used_gives_no_rows_and_no_signal(tmp_path: Path) -> None:
    store = filled(tmp_path, range(8))
    path = segment_file(store)
    rows = store.find([key(number) for number in range(8)])
    assert store.gather(rows, 5)[1] == []
    # Row 6 has two tokens, row 7 three; what is left ends within row 7.
    os.truncate(path, path.stat().st_size - 4)
    batch, empty = store.gather(rows, 5)
    assert empty == [7]
    assert batch[6, :, 0].tolist() == [6, 6, 0, 0, 0]
    assert batch[7].tolist() == [[0.0] * WIDTH] * 5
    assert found(store, range(8)) == list(range(7))


def test_more_segments_than_may_be_open_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "MOST_OPEN", 2)
    for number in range(6):
        filled(tmp_path, [number])
    store = StateStore(tmp_path, space())
    for _ in range(2):
        assert found(store, range(6)) == list(range(6))
        assert_right(store, range(6))


def test_a_segment_that_another_file_has_replaced_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path, range(8))
    path = segment_file(store)
    other = path.read_bytes()
    path.unlink()
    path.write_bytes(other)
    assert found(store, range(8)) == list(range(8))  # the file that was opened
    assert found(StateStore(tmp_path, space()), range(8)) == list(range(8))
    monkeypatch.setattr(segments, "MOST_OPEN", 0)
    fresh = filled(tmp_path / "fresh", range(8))
    place = segment_file(fresh)
    place.write_bytes(place.read_bytes() + b"x")
    _, empty = fresh.gather(fresh.find([key(1)]), 5)
    assert empty == [0]


def forged(whole: bytes) -> bytes:
    """A segment whose last row says something else, mended as far as that goes without the secret."""
    data = bytearray(whole)
    data[-WIDTH * 4 :] = np.full(WIDTH, 7.0, "<f4").tobytes()
    return bytes(data)


def test_what_somebody_without_the_secret_writes_is_never_believed(tmp_path: Path) -> None:
    path = segment_file(filled(tmp_path, range(4)))
    path.write_bytes(forged(path.read_bytes()))
    store = StateStore(tmp_path, space())
    assert found(store, range(4)) == [0, 1, 2]
    # The whole segment, tagged with a secret of the forger's own.
    other = segments.Tagger(b"x" * 32)
    segments.write_segment(store.folder, [(key(50), np.ones((1, WIDTH), "<u4"))], other)
    assert found(StateStore(tmp_path, space()), [50]) == []


def test_another_users_segments_are_left_alone(tmp_path: Path) -> None:
    store = filled(tmp_path, range(4))
    path = segments.write_segment(store.folder, [(key(50), np.ones((1, WIDTH), "<u4"))], segments.Tagger(b"x" * 32))
    assert found(StateStore(tmp_path, space()), range(60)) == [0, 1, 2, 3]
    assert path.exists()


@pytest.mark.parametrize("what", ["pipe", "link", "folder"])
def test_what_is_no_plain_file_is_neither_waited_for_nor_followed(tmp_path: Path, what: str) -> None:
    store = filled(tmp_path, range(4))
    path = segment_file(store)
    stranger, description = store.folder / "0.rows", store.folder / "space.json"
    for place in (stranger, description):
        place.unlink(missing_ok=True)
        if what == "pipe":
            os.mkfifo(place)
        elif what == "link":
            place.symlink_to(path)
        else:
            place.mkdir()
    assert found(StateStore(tmp_path, space()), range(4)) == [0, 1, 2, 3]
    assert entries(tmp_path) == []


def test_a_folder_that_others_could_write_to_is_neither_read_nor_written(tmp_path: Path) -> None:
    filled(tmp_path, range(4))
    tmp_path.chmod(0o777)
    try:
        store = filled(tmp_path, range(4, 8))
        assert store.refusal == f"{tmp_path}: others can write to it (mode 777)"
        assert found(store, range(8)) == []
    finally:
        tmp_path.chmod(0o700)


def test_without_a_secret_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path / "states", range(4))
    (tmp_path / "in the way").write_text("")
    monkeypatch.setenv("ADAPTERKIT_CACHE", str(tmp_path / "in the way"))
    store = filled(tmp_path / "states", range(4))
    assert "in the way" in store.refusal
    assert found(store, range(4)) == []


def test_rows_count_as_a_segments_first_bytes_say(tmp_path: Path) -> None:
    assert segments.count_rows(segment_file(filled(tmp_path, range(4)))) == 4
