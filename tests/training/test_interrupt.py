"""A wish to stop is remembered, and heeded between two steps."""

from __future__ import annotations

import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from adapterkit.training import interrupt as module
from adapterkit.training.interrupt import Interrupt

ALONE: Any = SimpleNamespace(num_processes=1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_remembered_and_handlers_are_put_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Interrupt() as interrupt:
        assert not interrupt.wished(ALONE)
        signal.raise_signal(number)
        assert interrupt.wished(ALONE)
    assert signal.getsignal(number) is before


def test_the_same_wish_may_come_twice_and_a_second_one_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        now += 0.5 * module.SAME_WISH_SECONDS
        signal.raise_signal(signal.SIGTERM)
        assert interrupt.wished(ALONE)
        now += module.SAME_WISH_SECONDS
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert interrupt.insisted


def test_of_several_runs_the_last_to_leave_puts_the_handlers_back() -> None:
    before, interrupt = signal.getsignal(signal.SIGINT), Interrupt()
    with interrupt:
        with interrupt:
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is not before
        assert interrupt.wished(ALONE)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_wish_of_any_process_is_one_of_all() -> None:
    class Two:
        num_processes = 2
        device = "cpu"

        def reduce(self, flag: Any, reduction: str) -> Any:
            return flag + self.other

        def __init__(self, other: float) -> None:
            self.other = other

    assert Interrupt().wished(Two(1.0))  # type: ignore[arg-type]
    assert not Interrupt().wished(Two(0.0))  # type: ignore[arg-type]


def test_in_a_thread_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[Any] = []

    def run() -> None:
        with Interrupt() as interrupt:
            seen.append((signal.getsignal(signal.SIGINT) is before, interrupt.wished(ALONE)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [(True, False)]
