"""Rows that a test can check in its head, and stores that hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapterkit.training.trunk_cache.space import Space
from adapterkit.training.trunk_cache.store import MISSING, StateStore

WIDTH = 4


def space(**changes: Any) -> Space:
    facts: dict[str, Any] = {
        "backbone": "tiny",
        "fingerprint": "f" * 64,
        "tokenizer": "t" * 64,
        "layer": 2,
        "pooling": "",
        "width": WIDTH,
        "dtype": "float32",
        "computed_in": ("torch.float32", "torch.float32"),
        "attention": "sdpa",
        "device": "cpu",
    }
    return Space(**{**facts, **changes})


def key(number: int) -> bytes:
    return number.to_bytes(16, "little")


def states(number: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The states of text `number`: number % 5 + 1 tokens, every value its number."""
    return torch.full((number % 5 + 1, WIDTH), float(number % 200), dtype=dtype)


def filled(root: Path, numbers: Any, of: Space | None = None) -> StateStore:
    store = StateStore(root, of or space())
    for number in numbers:
        store.add(key(number), states(number, store.space.torch_dtype))
    store.flush()
    return store


def found(store: StateStore, numbers: Any) -> list[int]:
    return [
        number for number, row in zip(numbers, store.find([key(n) for n in numbers]), strict=True) if row != MISSING
    ]


def assert_right(store: StateStore, numbers: Any) -> None:
    """Every row that is found is the one that was written."""
    numbers = found(store, numbers)
    batch, empty = store.gather(store.find([key(n) for n in numbers]), 5)
    assert empty == []
    for number, row in zip(numbers, batch, strict=True):
        expected = torch.zeros(5, WIDTH, dtype=row.dtype)
        expected[: number % 5 + 1] = number % 200
        assert torch.equal(row, expected)


def segment_file(store: StateStore) -> Path:
    (path,) = store.folder.glob("*.rows")
    return path
