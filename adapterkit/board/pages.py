"""The board's three files, beside a service on the same address.

What the page shows and does it asks of the service's own paths, with the key of whoever looks at it: it holds nothing
itself, so it can show nobody more than the key opens. It needs no network beyond the service.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from starlette.responses import PlainTextResponse, RedirectResponse, Response

PATH = "/board"
FILES: Mapping[str, tuple[str, str]] = {
    f"{PATH}/": ("page.html", "text/html; charset=utf-8"),
    f"{PATH}/board.js": ("board.js", "text/javascript; charset=utf-8"),
    f"{PATH}/board.css": ("board.css", "text/css; charset=utf-8"),
}
HEADERS: Mapping[str, str] = {
    "cache-control": "no-cache",
    # Styles may stand in the text, since reports are shown in a frame that inherits this; scripts may not.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def with_board(service: Any) -> Any:
    """An ASGI application that gives the board under /board and leaves everything else to the service."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        if scope["type"] == "http" and (path == PATH or path.startswith(f"{PATH}/")):
            await _reply(path, scope["method"])(scope, receive, send)
        else:
            await service(scope, receive, send)

    return app


def _reply(path: str, method: str) -> Response:
    if method not in ("GET", "HEAD"):
        return PlainTextResponse("the board is only read", 405, {**HEADERS, "allow": "GET, HEAD"})
    if path == PATH:
        return RedirectResponse(f"{PATH}/", 308, HEADERS)
    if path not in FILES:
        return PlainTextResponse("there is nothing at this path", 404, HEADERS)
    name, kind = FILES[path]
    return Response(_content(name), headers={**HEADERS, "content-type": kind})


@cache
def _content(name: str) -> bytes:
    return (Path(__file__).parent / name).read_bytes()
