"""What every request passes before it is read: its size, its pace, its key; and what every answer carries."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from adapterkit.errors import AdapterkitError, BadRowError, DataError, GenerationError, NotMountedError, ServingError
from adapterkit.serving.keys import SCOPES, Key, Keys, Scope
from adapterkit.serving.quoting import wordless
from adapterkit.serving.requests import QueueFullError, RequestError
from adapterkit.serving.settings import Limits, is_loopback

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger(__name__)

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
TOLD = (BadRowError, DataError, GenerationError, NotMountedError, RequestError, QueueFullError)
"""Errors whose words are the client's own affair. The words of others may name files, and go to the log alone."""

REFUSALS: Mapping[int | str, dict[str, Any]] = {
    status: {"description": told, "content": {"application/json": {"schema": {"type": "object"}}}}
    for status, told in {
        400: "The body is no JSON, or was cut off.",
        401: "A key is needed.",
        403: "The key does not open this, or a page of another origin asks.",
        404: "There is no such task, version or path.",
        408: "The body came too slowly.",
        409: "A gate says no, or somebody else was quicker.",
        413: "The body is too large.",
        422: "The request cannot be used, with every reason.",
        429: "Too many rows wait; Retry-After says when to come back.",
        503: "The service is being drained or stopped; Retry-After says when to come back.",
        504: "There was no answer in time.",
    }.items()
}
"""Status -> what it means, for the OpenAPI schema. Every one has {"error": {"code", "message"}}."""

ANYBODY = Key(name="anybody", sha256="0" * 64, scopes=SCOPES)
"""Who asks where no keys are needed."""


async def body_of(request: Request, limits: Limits) -> bytes:
    """The body, once it is all there. Raises RequestError where it is too large or too slow."""
    stated = request.headers.get("content-length", "")
    if stated.isdigit() and int(stated) > limits.body_bytes:
        raise _too_large(limits)
    raw = bytearray()
    try:
        async with asyncio.timeout(limits.body_s):
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > limits.body_bytes:
                    raise _too_large(limits)
    except TimeoutError:
        raise RequestError(408, "too_slow", f"the body did not come within {limits.body_s:g} s") from None
    except ClientDisconnect:
        raise RequestError(400, "cut_off", "the body ended early") from None
    return bytes(raw)


def key_of(request: Request, keys: Keys, scope: Scope | None) -> Key:
    """Who asks. Raises RequestError without a key that opens this scope; None takes any key."""
    if not keys.required:
        return ANYBODY
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    found = keys.find(secret.strip()) if kind.lower() == "bearer" else None
    if found is None:
        headers = {"www-authenticate": "Bearer"}
        raise RequestError(401, "no_key", "a key is needed: Authorization: Bearer …", headers=headers)
    if scope is not None and scope not in found.scopes:
        raise RequestError(403, "wrong_scope", f"this key does not open the scope {scope!r}")
    return found


def error_facts(error: AdapterkitError) -> dict[str, str]:
    """An error as a client sees it: nothing of the machine."""
    if isinstance(error, TOLD):
        return error.as_json()
    logger.error("%s", error)
    return {"code": error.code, "message": "the service could not answer; its log says why"}


def refusal(error: AdapterkitError) -> JSONResponse:
    """The answer to a request that cannot be served."""
    headers: dict[str, str] = {}
    status = 500
    match error:
        case RequestError():
            status, headers = error.status, error.headers
        case QueueFullError():
            status, headers = 429, {"retry-after": str(error.retry_after_s)}
        case NotMountedError():
            status = 404
        case DataError() | GenerationError():
            status = 422
        case ServingError():
            status, headers = 503, {"retry-after": "1"}
    return JSONResponse({"error": error_facts(error)}, status, headers)


class Guarded:
    """ASGI around the whole application: headers on every answer, and no traceback, ever. `life` gives the context in
    which the application answers, for whoever runs it without a server."""

    def __init__(self, app: FastAPI, keys: Keys) -> None:
        self._app, self._keys = app, keys
        self.life = partial(app.router.lifespan_context, app)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def send_with_headers(message: Any) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                given = {name.lower() for name, _ in message["headers"]}
                extra = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in given]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        try:
            if problem := _foreign(scope, self._keys):
                await refusal(RequestError(403, "origin", problem))(scope, receive, send_with_headers)
                return
            await self._app(scope, receive, send_with_headers)
        except Exception as error:  # noqa: BLE001 - logged, without its words
            logger.error("a request to %s failed: %s", scope.get("path"), wordless(error))
            if begun:
                return
            facts = {"code": "internal", "message": "the service failed; its log says why"}
            await JSONResponse({"error": facts}, 500)(scope, receive, send_with_headers)


def _foreign(scope: Any, keys: Keys) -> str:
    """Why a browser's request is refused, or "": a page of another origin must not steer a service that needs no keys,
    nor may it by a name of its own that leads here."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    origin, host = headers.get(b"origin"), headers.get(b"host", "")
    try:
        named, own = urlsplit(origin or "").netloc, urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return "its Origin or Host is no address"
    if origin is not None and named != host:
        return "pages of another origin are not answered"
    browser = origin is not None or b"sec-fetch-site" in headers
    if browser and not keys.required and not is_loopback(own):
        return "without keys only this machine's own names are answered"
    return ""


def _too_large(limits: Limits) -> RequestError:
    return RequestError(413, "too_large", f"the body has more than {limits.body_bytes:,} bytes")
