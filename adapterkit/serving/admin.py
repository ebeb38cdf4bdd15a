"""The paths of admins: every act needs a key with the scope `admin`, and is kept under that key's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from adapterkit.errors import AdapterkitError, ConflictError, GateError, NotMountedError
from adapterkit.serving.guarded import key_of
from adapterkit.serving.requests import (
    Divide,
    Drain,
    MountTask,
    Promote,
    RequestError,
    RollBack,
    UnmountTask,
    schema_of,
)

if TYPE_CHECKING:
    from fastapi import FastAPI

    from adapterkit.serving.service import Service
    from adapterkit.serving.steering import Steering

REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def add_routes(app: FastAPI, service: Service, steering: Steering) -> None:
    """Add the paths of admins to a service."""

    async def told(act: Callable[..., Any], *given: Any, **named: Any) -> Response:
        return JSONResponse(await _told(act, *given, **named))

    @app.get("/v1/admin/fleet")
    async def fleet(request: Request) -> Response:
        """What is mounted, and why something is not."""
        key_of(request, service.keys, "admin")
        return await told(lambda: {**steering.facts(), "waiting": service.work.waiting})

    @app.get("/v1/admin/audit")
    async def audit(request: Request, task: str | None = None) -> Response:
        """What was done, by whom, and whether the chain of the audit is whole."""
        key_of(request, service.keys, "admin")
        return await told(steering.audit, task)

    @app.get("/v1/admin/tasks/{task}/versions")
    async def versions(task: str, request: Request) -> Response:
        """The versions of a task."""
        key_of(request, service.keys, "admin")
        return await told(lambda: {"versions": steering.versions(task)})

    @app.get("/v1/admin/tasks/{task}/versions/{version}")
    async def version(task: str, version: str, request: Request) -> Response:
        """A version's card and metrics."""
        key_of(request, service.keys, "admin")
        return await told(steering.about, task, version)

    @app.get("/v1/admin/tasks/{task}/versions/{version}/report")
    async def report(task: str, version: str, request: Request) -> Response:
        """The page about the run that made a version."""
        key_of(request, service.keys, "admin")
        file = await _told(steering.report, task, version)
        if file is None:
            raise RequestError(404, "not_found", "this version has no report")
        page = await run_in_threadpool(file.read_bytes)
        headers = {"content-security-policy": REPORT_POLICY}
        return Response(page, media_type="text/html; charset=utf-8", headers=headers)

    @app.post("/v1/admin/mount", openapi_extra=schema_of(MountTask))
    async def mount(request: Request) -> Response:
        """Mount an artifact, or put it in the place of what answers a task."""
        owner, asked = await service.open(request, "admin", MountTask)
        return await told(steering.mount, owner.name, asked.task, asked.source)

    @app.post("/v1/admin/unmount", openapi_extra=schema_of(UnmountTask))
    async def unmount(request: Request) -> Response:
        """Take a task off."""
        owner, asked = await service.open(request, "admin", UnmountTask)
        return await told(steering.unmount, owner.name, asked.task)

    @app.post("/v1/admin/promote", openapi_extra=schema_of(Promote))
    async def promote(request: Request) -> Response:
        """Let a channel point to a version, or show what speaks for it."""
        owner, asked = await service.open(request, "admin", Promote)
        about = (owner.name, asked.task, asked.version, asked.channel, asked.evidence)
        return await told(steering.promote, *about, force=asked.force, try_only=asked.try_only)

    @app.post("/v1/admin/roll-back", openapi_extra=schema_of(RollBack))
    async def roll_back(request: Request) -> Response:
        """Let a channel point to what it pointed to before."""
        owner, asked = await service.open(request, "admin", RollBack)
        return await told(steering.roll_back, owner.name, asked.task, asked.channel)

    @app.post("/v1/admin/split", openapi_extra=schema_of(Divide))
    async def divide(request: Request) -> Response:
        """Divide the traffic of a task."""
        owner, asked = await service.open(request, "admin", Divide)
        return await told(steering.divide, owner.name, asked.task, asked.split)

    @app.post("/v1/admin/drain", openapi_extra=schema_of(Drain))
    async def drain(request: Request) -> Response:
        """Send new requests elsewhere; what was taken is answered."""
        owner, asked = await service.open(request, "admin", Drain)
        return await told(steering.drain, owner.name, asked.on)


async def _told(act: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """An act in a thread of its own. Whoever steers a service is told why it cannot be steered so."""
    try:
        return await run_in_threadpool(act, *given, **named)
    except (RequestError, NotMountedError):
        raise
    except AdapterkitError as error:
        status = 409 if isinstance(error, ConflictError | GateError) else 422
        raise RequestError(status, error.code, error.summary, error.problems) from error
