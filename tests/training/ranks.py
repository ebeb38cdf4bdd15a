"""Several processes that train together, forked from the one that tests, so that Python starts once."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import torch

from tests import tiny
from tests.training.worlds import recipe, train


@cache
def import_for_children() -> None:
    """Train here once: what a run imports takes every child four seconds otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        backbone = tiny.build("bert", Path(folder, "bert"))
        train(recipe(Path(folder), backbone, training={"max_steps": 1}))


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
    import_for_children()
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


@contextmanager
def torchrun(
    words: Sequence[str], arguments: Sequence[str], log: Path, enter: Callable[[], object] = lambda: None
) -> Iterator[BaseProcess]:
    """`torchrun WORDS -m adapterkit ARGUMENTS`, whose launcher and ranks are forks, so that nothing is imported anew.

    Nothing is left behind, whatever happens inside.

    Args:
        words: of torchrun.
        arguments: of `adapterkit`.
        log: file for what all of them say.
        enter: what the launcher does first; standard input is its file 0.
    """
    import_for_children()
    launcher = multiprocessing.get_context("fork").Process(target=_launch, args=(words, arguments, log, enter))
    launcher.start()
    try:
        yield launcher
    finally:
        if launcher.is_alive():
            kill_all(launcher)
        launcher.join(30)


@contextmanager
def command(arguments: Sequence[str], log: Path) -> Iterator[BaseProcess]:
    """`adapterkit ARGUMENTS` in a fork. Nothing is left behind, whatever happens inside.

    Args:
        arguments: as on a command line.
        log: file for what it says.
    """
    import_for_children()
    process = multiprocessing.get_context("fork").Process(target=_alone, args=(list(arguments), log))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join(30)


def _alone(arguments: list[str], log: Path) -> None:
    _say_into(log)
    _command_line(arguments)


def _say_into(log: Path) -> None:
    with log.open("w") as handle:
        for number in (1, 2):
            os.dup2(handle.fileno(), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))


def kill_all(launcher: Any) -> None:
    """A launcher and what it has started."""
    process = psutil.Process(launcher.pid)
    for one in (*process.children(recursive=True), process):
        one.kill()


def _launch(words: Sequence[str], arguments: Sequence[str], log: Path, enter: Callable[[], object]) -> None:
    from torch.distributed import run

    enter()
    _say_into(log)
    asked = run.config_from_args
    run.config_from_args = lambda given: (asked(given)[0], _command_line, [list(arguments)])
    run.main([*words, "--start-method", "fork", "adapterkit"])


def _command_line(arguments: list[str]) -> None:
    """In a child: what `python -m adapterkit` does."""
    from accelerate.state import AcceleratorState

    from adapterkit.cli import main

    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(1)  # those of the process that was forked are not here
    os.environ["ACCELERATE_USE_CPU"] = "true"
    sys.argv = ["adapterkit", *arguments]
    sys.stdin = os.fdopen(0, closefd=False)
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise


def wait_for_step(launcher: Any, output: Path, step: int) -> None:
    """Until a run has done that step, or its launcher has ended."""
    journal, process = output / "training" / "journal.jsonl", psutil.Process(launcher.pid)
    while not (journal.exists() and f'"step": {step},' in journal.read_text()):
        assert process.status() != psutil.STATUS_ZOMBIE, "the launcher has ended"
        time.sleep(0.02)
