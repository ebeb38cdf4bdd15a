"""Points trained beside each other, each in a process of its own on a device, or a share of the cores, of its own."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from typing import Any

import torch

from adapterkit.errors import DivergedError, TrainingError
from adapterkit.recipe import Recipe
from adapterkit.sweeping.points import Point, Source
from adapterkit.training import Paused, train
from adapterkit.training.interrupt import Interrupt
from adapterkit.training.reuse import Reuse
from adapterkit.training.together import Outcome

VISIBLE = "CUDA_VISIBLE_DEVICES"
LOOKS_PER_SECOND = 5
"""How often the first process looks whether it was asked to stop."""


def trained(
    source: Source, points: Sequence[tuple[Point, Mapping[str, Any]]], expected: Sequence[Recipe], processes: int
) -> Iterator[tuple[Point, Outcome | None]]:
    """Train points, each with what `train` takes, in so many processes. Yields each as it ends, and how.

    A process takes the next point when it is done with one. It sees one of the GPUs, where there are GPUs, or has its
    share of the cores. A point learns what it learns alone, in every byte.

    Args:
        expected: recipes of all runs that are to come, so that each decides on its trunk cache as one process would.

    Raises:
        AdapterkitError: as `train` raises it; points that are under way end first.
        TrainingError: a process was killed.
        KeyboardInterrupt: a wish to stop; every process has written its checkpoint.
    """
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    context.set_forkserver_preload([__name__, "peft"])  # once, however many processes and rungs there are
    said, count = os.environ.get(VISIBLE), torch.cuda.device_count()
    # The GPUs that this process may use, as CUDA names them in the environment.
    devices = [*map(str, range(count))] if said is None else [name for name in said.split(",") if name]
    queue = context.SimpleQueue()
    for number in range(processes):
        queue.put(devices[number % len(devices)] if devices else "")
    threads = max(1, torch.get_num_threads() // processes)
    begin = (dict(os.environ), queue, threads, source, expected)
    others = multiprocessing.active_children()
    with Interrupt() as interrupt, ProcessPoolExecutor(processes, context, _begin, begin) as pool:
        running: dict[Future[Outcome | None], Point] = {pool.submit(_train, more): point for point, more in points}
        try:
            while running:
                for future in wait(running, 1 / LOOKS_PER_SECOND, FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
                if interrupt.asked:
                    raise KeyboardInterrupt
        except BrokenProcessPool as error:
            raise TrainingError(
                "a process that trained points of the sweep has ended without a word",
                remedy="If memory ran out, take fewer processes. The same command goes on.",
            ) from error
        finally:  # a stopped run, or one that failed, leaves nothing at work
            for future in running:
                future.cancel()
            if interrupt.asked:
                for process in {*multiprocessing.active_children()} - {*others}:
                    process.terminate()


OWN: dict[str, Any] = {}
"""What this process keeps from point to point."""


def _begin(
    environment: Mapping[str, str], devices: Any, threads: int, source: Source, expected: Sequence[Recipe]
) -> None:
    os.environ.update(environment)
    os.setsid()  # the terminal's Ctrl-C comes once, from the first process
    device = devices.get()
    if device:  # before CUDA begins
        os.environ[VISIBLE] = device
    torch.set_num_threads(threads)
    OWN.update(source=source, reuse=Reuse(expected))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


def _train(more: Mapping[str, Any]) -> Outcome | None:
    try:
        train(OWN["source"], reuse=OWN["reuse"], **more)
    except (Paused, DivergedError) as end:
        return end
    except KeyboardInterrupt:  # the checkpoint is written; the pool would hand out the next point
        signal.raise_signal(signal.SIGTERM)
    return None
