"""Kept memory for gathered adapters: the same tensors as fresh ones, and never two gathers of a batch in one place."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from adapterkit.host.engine import gathering
from adapterkit.host.engine.engine import Engine
from adapterkit.host.engine.gathering import Gathering
from tests.host import worlds

LENGTH = 1 << 18


def flats(count: int, seed: int = 0, length: int = LENGTH, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, generator=generator).to(dtype) for _ in range(count)]


def test_memory_is_kept_from_batch_to_batch_and_grows() -> None:
    kept = Gathering()
    places = []
    for count, dtype in ((3, torch.float32), (2, torch.float32), (5, torch.float32), (4, torch.bfloat16)):
        given = flats(count, seed=count, dtype=dtype)
        found = kept.collect(given)
        assert torch.equal(found, torch.stack(given))
        places.append(found.data_ptr())
        kept.reset()
    assert places[0] == places[1] != places[2]


def test_two_gathers_of_one_batch_have_places_of_their_own() -> None:
    kept = Gathering()
    for _ in range(2):
        one, two = flats(2, seed=1), flats(4, seed=2)
        first, second = kept.collect(one), kept.collect(two)
        assert torch.equal(first, torch.stack(one))
        assert torch.equal(second, torch.stack(two))
        kept.reset()
    assert len(kept._idle) == 2


def test_small_tensors_take_memory_that_is_at_hand() -> None:
    kept = Gathering()
    given = flats(2, length=16)
    assert torch.equal(kept.collect(given), torch.stack(given))
    assert not kept._idle


def test_a_mix_that_comes_back_is_not_copied_again() -> None:
    kept, given = Gathering(), flats(4)
    found = kept.collect(given)
    found[2] = 7.0  # what is written here stays only where nothing is copied
    kept.reset()
    other = flats(1, seed=5)[0]
    again = kept.collect([given[0], other, given[2]])
    assert torch.equal(again[:2], torch.stack([given[0], other]))
    assert torch.equal(again[2], torch.full((LENGTH,), 7.0))
    kept.reset()
    assert torch.equal(kept.collect(given)[1], given[1])


def test_an_address_that_another_adapter_has_now_is_not_taken_for_the_old_one() -> None:
    kept, given = Gathering(), flats(2)
    kept.collect(given)
    kept.reset()
    place = given[0].data_ptr()
    del given
    for seed in range(1, 50):
        fresh = flats(2, seed=seed)
        assert torch.equal(kept.collect(fresh), torch.stack(fresh))
        kept.reset()
        if place in {flat.data_ptr() for flat in fresh}:
            return
    pytest.skip("this system did not hand out the same address twice")


def test_other_lengths_and_formats_share_a_buffer_and_nothing_of_what_was_in_it() -> None:
    kept = Gathering()
    for count, length in ((4, LENGTH), (8, LENGTH // 2), (3, LENGTH), (4, LENGTH)):
        given = flats(count, seed=count, length=length)
        assert torch.equal(kept.collect(given), torch.stack(given))
        kept.reset()
    assert len(kept._idle) == 1


@pytest.mark.parametrize("first", [torch.inference_mode, torch.no_grad])
def test_kept_memory_serves_with_and_without_inference_mode(first: Callable[[], Any]) -> None:
    kept = Gathering()
    for mode in (first, torch.no_grad, torch.inference_mode):
        given = flats(2)
        with mode():
            assert torch.equal(kept.collect(given), torch.stack(given))
        kept.reset()


def test_batches_on_kept_memory_answer_as_each_row_alone(tiny_backbones: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "_LEAST_BYTES", 0)
    backbone = tiny_backbones["bert"]
    names = ("lora", "lora-all", "houlsby", "ia3")
    adapters = [worlds.make(backbone, "bert", worlds.METHODS[name], seed) for name in names for seed in (0, 1, 2)]
    engine = Engine(backbone)

    def ask(turn: int) -> float:
        rows = [(adapters[(turn + step * step) % len(adapters)], step % worlds.ROWS) for step in range(3 + turn % 9)]
        found = worlds.answers(engine, "bert", rows)
        return max(worlds.distance(f, mounted.alone[row]) for f, (mounted, row) in zip(found, rows, strict=True))

    assert max(map(ask, range(12))) <= 1e-5
    with ThreadPoolExecutor(4) as threads:
        assert max(threads.map(ask, range(48))) <= 1e-5
    assert any(view.gathering._idle for view in engine._free)
