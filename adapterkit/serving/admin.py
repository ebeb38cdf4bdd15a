"""The paths of admins: every act needs a key with the scope `admin`, and is kept under that key's name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from adapterkit.errors import AdapterkitError, ConflictError, GateError, NotMountedError
from adapterkit.serving import requests
from adapterkit.serving.guarded import key_of
from adapterkit.serving.requests import RequestError, schema_of

if TYPE_CHECKING:
    from fastapi import FastAPI

    from adapterkit.serving.service import Service
    from adapterkit.serving.steering import Steering

REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def add_routes(app: FastAPI, service: Service, steering: Steering) -> None:
    """Add the paths of admins to a service."""

    async def told(act: Callable[..., Any], *given: Any) -> Response:
        return JSONResponse(await _told(act, *given))

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

    acts: dict[str, tuple[type[Any], Callable[[str, Any], Any]]] = {
        "mount": (requests.MountTask, lambda by, it: steering.mount(by, it.task, it.source)),
        "unmount": (requests.UnmountTask, lambda by, it: steering.unmount(by, it.task)),
        "promote": (requests.Promote, steering.promote),
        "roll-back": (requests.RollBack, lambda by, it: steering.roll_back(by, it.task, it.channel)),
        "split": (requests.Divide, lambda by, it: steering.divide(by, it.task, it.split)),
        "drain": (requests.Drain, lambda by, it: steering.drain(by, it.on)),
    }

    def add(name: str, model: type[Any], act: Callable[[str, Any], Any]) -> None:
        async def done(request: Request) -> Response:
            owner, asked = await service.open(request, "admin", model)
            return await told(act, owner.name, asked)

        path, about = f"/v1/admin/{name}", inspect.getdoc(model)
        app.add_api_route(path, done, methods=["POST"], name=name, description=about, openapi_extra=schema_of(model))

    for name, (model, act) in acts.items():
        add(name, model, act)


async def _told(act: Callable[..., Any], *given: Any) -> Any:
    """An act in a thread of its own. Whoever steers a service is told why it cannot be steered so."""
    try:
        return await run_in_threadpool(act, *given)
    except (RequestError, NotMountedError):
        raise
    except AdapterkitError as error:
        status = 409 if isinstance(error, ConflictError | GateError) else 422
        raise RequestError(status, error.code, error.summary, error.problems) from error
