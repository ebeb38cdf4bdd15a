"""A host under load while its adapters are swapped, its process is forked, and it is closed."""

from __future__ import annotations

import gc
import os
import random
import threading
import time
from pathlib import Path

import torch

from adapterkit.backbone import Backbone
from adapterkit.errors import HostClosedError, HostForkedError
from adapterkit.host import Host
from adapterkit.recipe import HeadSettings, LoraMethod
from tests import tiny
from tests.abuse.artifacts import World, alike, make_world

NAMES = ("a", "b", "c")
ROUND_S = 0.3


class Swaps:
    """Every answer is that of the version which it says; a fork takes nothing with it; a closed host says so."""

    judged = True

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)  # threads of computation do not outlive a fork
        backbone = Backbone.load(str(tiny.build("bert", folder / "bert")), dtype="float32", device="cpu")
        methods = [LoraMethod(rank=2, alpha=4.0), LoraMethod(rank=3, alpha=9.0, sites=("attention.key",))]
        self._worlds: list[World] = [
            make_world(folder / str(n), backbone, "text-classification", method, HeadSettings(kind="family"))
            for n, method in enumerate(methods)
        ]

    def attempt(self, number: int, folder: Path) -> str:
        generator = random.Random(number)
        host = Host(self._worlds[0].backbone, slots=2, folder=folder)  # one fewer than there are
        for name in NAMES:
            host.mount(name, self._worlds[0].folder)
        wrong: list[str] = []
        closed = threading.Event()
        threads = [threading.Thread(target=self._ask, args=(host, closed, wrong, seed)) for seed in range(3)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + ROUND_S
        while time.monotonic() < until:
            host.swap(generator.choice(NAMES), generator.choice(self._worlds).folder)
            if generator.random() < 0.05:
                fork(host)
        closed.set()
        host.close()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive(), "a thread that hangs"
        assert not wrong, wrong[0]
        del host
        gc.collect()
        assert not list(folder.iterdir()), "files that outlive their host"
        return "right"

    def _ask(self, host: Host, closed: threading.Event, wrong: list[str], seed: int) -> None:
        generator = random.Random(seed)
        expected = {
            str(world.folder): dict(zip(map(str, world.rows), world.answers, strict=True)) for world in self._worlds
        }
        rows = self._worlds[0].rows
        try:
            while True:
                asked = [(generator.choice(NAMES), generator.choice(rows)) for _ in range(4)]
                for (name, row), found in zip(asked, host.answers(asked), strict=True):
                    source = found.mounted.origin.source if found.mounted else "nothing"
                    if not alike(found.answer, expected.get(source, {}).get(str(row))):
                        wrong.append(f"{name} answers {found.answer} as {source}")
        except HostClosedError:
            if not closed.is_set():
                wrong.append("closed before it was")
        except Exception as error:  # noqa: BLE001 - of a thread, nobody else would hear of it
            wrong.append(f"{type(error).__name__}: {error}")


def fork(host: Host) -> None:
    """A child that asks, closes and ends, as a worker of a server does that loads before it forks."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            host.predict([(NAMES[0], "x")])
        except HostForkedError:
            host.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "a forked child that is not told"
