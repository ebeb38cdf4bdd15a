"""What stands before the replicas: it reads a request whole, sends it to one of them, and asks another if that dies."""

import logging
from types import SimpleNamespace
from typing import Any

from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from ray.exceptions import RayActorError
from starlette.requests import Request
from starlette.responses import Response

from adapterkit.errors import AdapterkitError, ServingError
from adapterkit.serving.guarded import HEADERS, body_of, key_of, refusal
from adapterkit.serving.keys import read_keys
from adapterkit.serving.ray.calls import REPLICA, Reply, WholeRequest
from adapterkit.serving.ray.settings import RaySettings
from adapterkit.serving.requests import RequestError
from adapterkit.serving.settings import is_loopback

logger = logging.getLogger(__name__)

TRIES = 5
"""Replicas that a request is given to, should one after the other die over it."""
OF_ONE_PROCESS = ("/v1/admin/mount", "/v1/admin/unmount", "/v1/admin/drain")
"""Acts that a replica which is started later would not know of."""


class Front:
    """The address of a service under Ray. It keeps nothing, so there may be several.
    `hosts`: the handle of the replicas."""

    def __init__(self, hosts: Any, settings: RaySettings) -> None:
        self._hosts, self._limits, self._keys = hosts, settings.limits, read_keys(settings.keys)

    async def __call__(self, request: Request) -> Response:
        """Answer a request over HTTP."""
        try:
            call = await self._read(request)
            if (call.method, call.path) == ("GET", "/metrics"):
                return await self._metrics(call)
            reply = await self._ask(call)
        except AdapterkitError as error:
            refused = refusal(error)
            refused.headers.update(HEADERS)
            return refused
        if reply.status < 300 and not call.repeatable:
            await self._hosts.broadcast("follow").results_async(return_exceptions=True)
        return _response(reply)

    async def _read(self, request: Request) -> WholeRequest:
        client = None if request.client is None else (request.client.host, request.client.port)
        if not self._keys.required and client is not None and not is_loopback(client[0]):
            raise RequestError(403, "no_keys", "without keys only this machine is answered")
        if request.url.path in OF_ONE_PROCESS:
            raise RequestError(
                409, "replicated", "replicas answer with what their registry says, or what they began with"
            )
        body = b""
        if request.method not in ("GET", "HEAD"):
            key_of(request, self._keys, None)
            body = await body_of(request, self._limits)
        return WholeRequest(
            request.method, request.url.path, request.scope["query_string"], tuple(request.headers.raw), body, client
        )

    async def _ask(self, call: WholeRequest) -> Reply:
        tasks = call.tasks()
        for _ in range(TRIES):
            try:
                found: Reply = await self._hosts.ask.remote(call, tasks=tasks)
                return found
            except RayActorError as error:
                logger.warning("a replica died over a request to %s: %s", call.path, type(error).__name__)
                if not call.repeatable:
                    raise ServingError(
                        "who was asked has died; the audit says whether it was done", remedy="Look before asking again."
                    ) from error
        raise ServingError("one replica after the other died over this request")

    async def _metrics(self, call: WholeRequest) -> Response:
        """The figures of every replica, each with its name as a label."""
        replies = await self._hosts.broadcast("ask", call, tasks={}).results_async(return_exceptions=True)
        found = [reply for reply in replies if isinstance(reply, Reply)]
        if refused := [reply for reply in found if reply.status != 200]:
            return _response(refused[0])
        families: dict[str, Metric] = {}
        for reply in found:
            replica = dict(reply.headers)[REPLICA].decode()
            for family in text_string_to_metric_families(reply.body.decode()):
                whole = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                whole.samples += [each._replace(labels={**each.labels, "replica": replica}) for each in family.samples]
        merged: Any = SimpleNamespace(collect=families.values)
        return Response(generate_latest(merged), media_type="text/plain; version=0.0.4", headers=HEADERS)


def _response(reply: Reply) -> Response:
    answer = Response(reply.body, reply.status)
    answer.raw_headers = list(reply.headers)
    return answer
