"""A registry that is used for years costs what it costs on the first day, and a way back asks nobody else."""

from __future__ import annotations

import gc
import socket
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from adapterkit.cli import app
from adapterkit.registry import Registry
from tests.registry.conftest import Make

REASON = "r" * 40_000


def grown(act: Callable[[], Any]) -> int:
    """The most bytes that an act holds at once."""
    tracemalloc.start()
    act()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def test_neither_ways_back_nor_audits_nor_services_hold_the_history_in_memory(registry: Registry, make: Make) -> None:
    for name in "ab":
        registry.add("intent", make(name))
    for number in range(40):
        registry.promote("intent", str(number % 2 + 1), force=REASON)
    assert len(registry.entries("intent", 3)) == 3
    for act in (
        lambda: registry.roll_back("intent"),
        lambda: registry.channels("intent"),
        lambda: registry.version("intent", "stable"),
        lambda: registry.entries("intent", 3),
    ):
        act()
        assert grown(act) < 10 * len(REASON)
    assert grown(lambda: registry.audit(files=False)) < 30 * len(REASON)
    assert registry.audit().entries == 2 + 40 + 2


def test_a_registry_that_was_opened_and_closed_leaves_nothing_behind(registry: Registry) -> None:
    def opened(times: int) -> int:
        for _ in range(times):
            Registry(registry.url, actor="bob").close()
        gc.collect()
        return len(gc.get_objects())

    before = opened(2)
    assert opened(4) - before < 4


def test_an_audit_beside_a_writer_sees_one_moment(registry: Registry, make: Make) -> None:
    for name in "ab":
        registry.add("intent", make(name))
    over, found = threading.Event(), []

    def look() -> None:
        while not over.is_set():
            found.extend(registry.audit(files=False).problems)

    looking = threading.Thread(target=look)
    looking.start()
    writing = registry.acting("bob")
    try:
        for number in range(16):
            writing.promote("intent", str(number % 2 + 1))
    finally:
        over.set()
        looking.join()
    assert found == []
    assert {entry.actor for entry in registry.entries()} == {"ada", "bob"}


def test_a_roll_back_needs_no_network(registry: Registry, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate("ab", 1):
        registry.add("intent", make(name))
        registry.promote("intent", str(number))

    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("somebody asked the network")

    for name in ("socket", "create_connection", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, refused)
    done = CliRunner().invoke(app, ["registry", "roll-back", "intent", "--registry", registry.url])
    assert (done.exit_code, registry.version("intent", "stable").number) == (0, 1)
    assert registry.fetch("intent").is_dir()
