"""One replica: a whole service around a host of its own, asked by calls instead of over a socket."""

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from typing import Any

from ray import serve

from adapterkit.serving.ray.calls import REPLICA, Reply, WholeRequest, reply_of
from adapterkit.serving.ray.router import HELD
from adapterkit.serving.ray.settings import RaySettings
from adapterkit.serving.starting import started

Around = Callable[[Any], Any]
"""ASGI application -> one that answers more."""


class Replica:
    """A service that follows the same registry as its siblings and is reached through Ray alone.

    It takes calls once everything is loaded and has answered its golden rows. Calls that come together share batches,
    whatever they ask.
    """

    def __init__(self, settings: RaySettings, around: Around | None) -> None:
        self._closing = ExitStack()
        self._service = self._closing.enter_context(started(settings))
        self._app = self._service.app if around is None else around(self._service.app)
        self._name = serve.get_replica_context().replica_id.unique_id
        self._living = AsyncExitStack()
        self._begun: asyncio.Future[None] | None = None

    async def ask(self, call: WholeRequest, tasks: dict[str, int]) -> Reply:
        """Answer a request. `tasks` is what the router went by."""
        life = self._service.app.life
        self._begun = self._begun or asyncio.ensure_future(self._living.enter_async_context(life()))
        await asyncio.shield(self._begun)
        reply = await reply_of(self._app, call)
        return replace(reply, headers=(*reply.headers, (REPLICA, self._name.encode())))

    async def follow(self) -> int:
        """Look at the registry at once. Returns the process, for whoever looks after it."""
        await asyncio.to_thread(self._service.follow)
        return os.getpid()

    def record_routing_stats(self) -> dict[str, Any]:
        """What the router is told: the tasks whose adapters are in memory."""
        resident = {status.name for status in self._service.fleet.host.status() if status.resident}
        routes = self._service.fleet.routes.items()
        return {HELD: sorted(task for task, route in routes if resident & {arm.mounted for arm in route.everything})}

    async def __del__(self) -> None:
        """Answer what was taken, and let go of everything."""
        await self._living.aclose()
        self._closing.close()
