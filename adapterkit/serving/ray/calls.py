"""A request as it travels to a replica, and its answer as it comes back: plain bytes, whole in both directions."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from adapterkit.errors import AdapterkitError
from adapterkit.manifest import parse_json

Headers = tuple[tuple[bytes, bytes], ...]
REPLICA = b"x-adapterkit-replica"
"""The header that says which replica answered."""


@dataclass(frozen=True)
class WholeRequest:
    """A request of HTTP with its whole body."""

    method: str
    path: str
    query: bytes
    headers: Headers
    body: bytes
    client: tuple[str, int] | None

    @property
    def repeatable(self) -> bool:
        """Whether asking again does no harm: an act of an admin may have been done by who died over it."""
        return self.method in ("GET", "HEAD") or not self.path.startswith("/v1/admin/")

    def tasks(self) -> dict[str, int]:
        """Task -> rows that are asked of it, as far as can be seen; who answers checks the whole."""
        if self.method != "POST":
            return {}
        pieces = self.path.split("/")
        if pieces[:3] == ["", "v1", "tasks"] and len(pieces) == 5:
            return {unquote(pieces[3]): 1}
        try:
            body = parse_json(self.body, "body")
        except AdapterkitError:
            return {}
        if not isinstance(body, Mapping):
            return {}
        rows, named = body.get("rows"), body.get("tasks")
        asked = [row.get("task") for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
        asked += [*(named if isinstance(named, list) else []), body.get("model"), body.get("task")]
        return dict(Counter(task for task in asked if isinstance(task, str)))


@dataclass(frozen=True)
class Reply:
    """An answer of HTTP with its whole body."""

    status: int
    headers: Headers
    body: bytes


async def reply_of(app: Any, call: WholeRequest) -> Reply:
    """What an ASGI application of this process answers. Cancelling it is what a client does that goes away."""
    begun: dict[str, Any] = {}
    body, whole = bytearray(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not whole.is_set():
            whole.set()
            return {"type": "http.request", "body": call.body, "more_body": False}
        await asyncio.Event().wait()  # whoever waits for the client to go is cancelled when it goes
        raise AssertionError

    async def send(message: Mapping[str, Any]) -> None:
        begun.update(message if message["type"] == "http.response.start" else {})
        body.extend(message.get("body", b""))

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": call.method,
        "scheme": "http",
        "path": call.path,
        "raw_path": call.path.encode(),
        "query_string": call.query,
        "root_path": "",
        "headers": list(call.headers),
        "client": call.client,
        "server": None,
    }
    await app(scope, receive, send)
    return Reply(begun["status"], tuple((bytes(n), bytes(v)) for n, v in begun["headers"]), bytes(body))
