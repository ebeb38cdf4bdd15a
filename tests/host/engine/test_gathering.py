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
    assert len(kept._buffers) == 2


def test_small_tensors_take_memory_that_is_at_hand() -> None:
    kept = Gathering()
    given = flats(2, length=16)
    assert torch.equal(kept.collect(given), torch.stack(given))
    assert not kept._buffers


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
    assert any(view.gathering._buffers for view in engine._free)
