"""Where the processes of a launch meet: in the launcher's store, and there never among what earlier ones have left.

torchrun starts all processes again when one of them is lost, and hands the new ones the store of the old ones, with the
addresses of those in it: the new ones would look for the dead, fail, or wait for minutes (pytorch#135712). How often
each machine has started anew tells them nothing, since the machines count by themselves.
"""

import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

import torch
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from adapterkit.errors import TrainingError

SCHEME = "adapterkit"
_ASKED_EVERY_SECONDS = 0.05


def init_method(environment: Mapping[str, str]) -> str | None:
    """Where processes meet, as torch is told it; None for its own way, where each launch has a store of its own."""
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    if SCHEME not in _known:
        torch.distributed.register_rendezvous_handler(SCHEME, _meet)  # type: ignore[attr-defined, no-untyped-call]
        _known.add(SCHEME)
    words = (environment[name] for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
    return f"{SCHEME}://{'/'.join(words)}"


_known: set[str] = set()


def _meet(url: str, timeout: timedelta = timedelta(minutes=10), **_: Any) -> Iterator[tuple[Store, int, int]]:
    """What torch calls with the URL that `init_method` gave."""
    rank, ranks, host, port = url.removeprefix(f"{SCHEME}://").partition("?")[0].split("/")
    store = TCPStore(host, int(port), int(ranks), is_master=False, timeout=timeout)
    yield fresh(store, int(rank), int(ranks), timeout), int(rank), int(ranks)


def fresh(store: Store, rank: int, ranks: int, timeout: timedelta) -> Store:
    """A part of the store in which these processes find each other, and nobody else. Every process calls this.

    The first process draws a name. The others repeat it with a word of their own, and go in when the first one has
    answered that very word: neither an old name nor an old answer lets anyone in. Raises TrainingError: not all
    processes have come in time."""
    own, deadline = uuid4().hex, time.monotonic() + timeout.total_seconds()
    missing = set(range(1, ranks))
    if rank == 0:
        store.set("drawn", own)
    while True:
        if rank == 0:
            for other in sorted(missing):
                name, _, word = _read(store, f"repeated/{other}").partition(" ")
                if name == own:
                    store.set(f"answered/{name}/{word}", "")
                    missing.discard(other)
            if not missing:
                return PrefixStore(own, store)
        elif name := _read(store, "drawn"):
            if store.check([f"answered/{name}/{own}"]):
                return PrefixStore(name, store)
            store.set(f"repeated/{rank}", f"{name} {own}")
        if time.monotonic() > deadline:
            missed = f"process {', '.join(map(str, sorted(missing)))}" if rank == 0 else "process 0"
            raise TrainingError(
                f"the processes of this run did not meet within {timeout.total_seconds():g} s",
                [f"missed by process {rank}: {missed}"],
                "See what they said, and whether their machines reach each other; then start all of them again.",
            )
        time.sleep(_ASKED_EVERY_SECONDS)


def _read(store: Store, key: str) -> str:
    """What stands there; "" where nothing does."""
    return store.get(key).decode() if store.check([key]) else ""
