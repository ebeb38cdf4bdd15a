"""A service in a process of its own: forked from one that has imported everything, which is most of a start."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import uvicorn

from adapterkit.cli.serve import serve as _serve_verb  # what the child needs is imported before it is forked
from adapterkit.serving.settings import ServiceSettings
from adapterkit.serving.starting import started

__all__ = ["begun", "serving"]

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.serving.own_process"])
_ = _serve_verb


def begun(work: Callable[..., None], *given: Any) -> BaseProcess:
    """A process that does this. Whoever asks for it kills or joins it; it does not outlive this one."""
    process = FORKS.Process(target=work, args=given, daemon=True)
    process.start()
    return process


def serving(settings: ServiceSettings) -> tuple[BaseProcess, int]:
    """A process that serves, and its port: once it answers."""
    here, there = FORKS.Pipe(duplex=False)
    process = begun(_serve, settings, there)
    there.close()
    with here:
        try:
            return process, here.recv()
        except EOFError:
            process.join()
            raise RuntimeError(f"the service did not start: status {process.exitcode}") from None


def _serve(settings: ServiceSettings, told: Connection) -> None:
    logging.getLogger("adapterkit").setLevel(logging.ERROR)  # acts are told as warnings

    class Telling(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets=sockets)
            told.send(self.servers[0].sockets[0].getsockname()[1])

    with started(settings) as service:
        Telling(uvicorn.Config(service.app, port=0, log_level="error", access_log=False, timeout_keep_alive=30)).run()
