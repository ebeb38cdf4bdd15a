"""Several processes that train together, forked from the one that tests, so that Python starts once."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from tests.training.worlds import train


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def as_rank(rank: int, ranks: int, port: int) -> None:
    """In a child process: be one of several, as a launcher would have it."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ.update(
        ACCELERATE_USE_CPU="true", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE=str(ranks),
        RANK=str(rank), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(ranks),
    )  # fmt: skip


def _forked(rank: int, ranks: int, port: int, act: Callable[[], object]) -> None:
    as_rank(rank, ranks, port)
    act()


def together(ranks: int, act: Callable[[], object], *, seconds: float = 120) -> None:
    """Every process does the same."""
    fork, port = multiprocessing.get_context("fork"), free_port()
    children = [fork.Process(target=_forked, args=(rank, ranks, port, act)) for rank in range(ranks)]
    for child in children:
        child.start()
    for child in children:
        child.join(timeout=seconds)
        if child.is_alive():
            child.kill()
    assert [child.exitcode for child in children] == [0] * ranks


def by_ranks(ranks: int, *plans: Mapping[str, Any], **arguments: Any) -> None:
    """So many processes train together, one run after the other."""
    together(ranks, lambda: [train(plan, **arguments) for plan in plans])
