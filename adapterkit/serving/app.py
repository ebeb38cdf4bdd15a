"""The application: what is asked over HTTP, and what comes back. docs/concepts/service.md shows it by example."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from adapterkit.errors import AdapterkitError
from adapterkit.host.answers.asked_rows import TASK
from adapterkit.serving import admin
from adapterkit.serving.figures import Figures
from adapterkit.serving.fleet import Fleet
from adapterkit.serving.guarded import REFUSALS, Guarded, key_of, refusal
from adapterkit.serving.keys import Keys
from adapterkit.serving.openai import add_routes
from adapterkit.serving.opening import Follower
from adapterkit.serving.requests import Feedback, Predict, PredictAll, PredictTask, RequestError, schema_of
from adapterkit.serving.service import Service
from adapterkit.serving.settings import Limits
from adapterkit.serving.steering import Steering
from adapterkit.serving.traces import Traces
from adapterkit.serving.watch import Watch
from adapterkit.serving.work import Done, Item, Work


def create_app(
    fleet: Fleet,
    *,
    keys: Keys | None = None,
    limits: Limits | None = None,
    watch: Watch | None = None,
    follower: Follower | None = None,
    signer: Any = None,
    traces: Traces | None = None,
) -> Any:
    """The service's ASGI application.

    Args:
        fleet: a host with its routes.
        keys: who may ask; None for everybody, which is for loopback alone.
        limits: of requests.
        watch: counts per version, and guards; None counts alone.
        follower: what keeps the fleet at a registry's channels; None without a registry.
        signer: private key (Ed25519) that signs receipts; None leaves them unsigned.
        traces: writes spans of requests; None for none.
    """
    limits, watch = limits or Limits(), watch or Watch(fleet)
    figures = Figures(fleet)
    figures.include(watch)

    def observe(item: Item, done: Done) -> None:
        figures.observe(item, done)
        watch.observe(item, done)

    service = Service(fleet, keys or Keys(None), limits, figures, Work(fleet, limits, observe), signer, traces)
    watch.busy = lambda: service.work.waiting > 0

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        watch.start()
        service.work.start()
        yield
        await asyncio.to_thread(service.work.stop)
        await asyncio.to_thread(watch.stop)

    app = FastAPI(title="adapterkit", lifespan=life, docs_url=None, redoc_url=None, responses=dict(REFUSALS))
    app.state.service = service

    @app.exception_handler(AdapterkitError)
    async def refused(_: Request, error: AdapterkitError) -> Response:
        return refusal(error)

    @app.exception_handler(404)
    async def not_found(_: Request, error: Exception) -> Response:
        return refusal(RequestError(404, "not_found", "there is nothing at this path"))

    @app.exception_handler(405)
    async def not_allowed(_: Request, error: Any) -> Response:
        return refusal(RequestError(405, "method", "this path has another method", headers=error.headers))

    @app.get("/healthz")
    async def healthz() -> Mapping[str, str]:
        """Whether the process is alive."""
        return {"status": "alive"}

    @app.get("/readyz")
    async def readyz() -> Response:
        """Whether every task has a version that answers its golden rows, and new requests are taken."""
        wrong = sorted(set(fleet.wrong) - set(fleet.routes))
        ready = bool(fleet.routes) and not wrong and not fleet.draining
        facts = {"ready": ready, "draining": fleet.draining, "wrong": wrong}
        return JSONResponse(facts, 200 if ready else 503)

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        """Figures for Prometheus; counts and times, no text. They name tasks, so they need a key where others do."""
        key_of(request, service.keys, "predict")
        return Response(figures.text(service.work.waiting), media_type="text/plain; version=0.0.4")

    @app.get("/v1/tasks")
    async def tasks(request: Request) -> Response:
        """What can be asked, and who answers."""
        key_of(request, service.keys, "predict")
        listed = [
            {"task": task, "kind": route.kind, "arms": {arm: route.facts(arm) for arm in route.arms}}
            for task, route in sorted(fleet.routes.items())
        ]
        return JSONResponse({"tasks": listed})

    @app.get("/v1/quality")
    async def quality(request: Request) -> Response:
        """What was seen of every version: counts, latency, confidence, feedback, verdicts of splits, events."""
        key_of(request, service.keys, "predict")
        return JSONResponse(await asyncio.to_thread(watch.facts))

    @app.post("/v1/predict", openapi_extra=schema_of(Predict))
    async def predict(request: Request) -> Response:
        """Mixed rows of any tasks: an answer or an error for each, in their order."""
        owner, asked = await service.open(request, "predict", Predict)
        known: dict[int, dict[str, Any]] = {}
        rows = []
        for place, row in enumerate(asked.rows):
            task = row.get(TASK)
            if isinstance(task, str):
                rows.append((task, {name: value for name, value in row.items() if name != TASK}))
            else:
                message = f"no {TASK}: expected the name of a task in {TASK!r}"
                known[place] = {"error": {"code": "bad_row", "message": message}}
        found = iter(await service.answer(request, rows, asked.key, owner) if rows else [])
        answers = [known[place] if place in known else service.facts(next(found)) for place in range(len(asked.rows))]
        return JSONResponse({"answers": answers})

    @app.post("/v1/tasks/{task}/predict", openapi_extra=schema_of(PredictTask))
    async def predict_task(task: str, request: Request) -> Response:
        """Rows of one task."""
        owner, asked = await service.open(request, "predict", PredictTask)
        fleet.find(task, "")
        found = await service.answer(request, [(task, row) for row in asked.rows], asked.key, owner)
        return JSONResponse({"answers": [service.facts(done) for done in found]})

    @app.post("/v1/predict_all", openapi_extra=schema_of(PredictAll))
    async def predict_all(request: Request) -> Response:
        """One row, answered by many tasks at little more than the price of one."""
        owner, asked = await service.open(request, "predict", PredictAll)
        names = sorted(fleet.routes) if asked.tasks is None else list(dict.fromkeys(asked.tasks))
        found = await service.answer(request, [(name, asked.row) for name in names], asked.key, owner)
        return JSONResponse({"answers": {n: service.facts(done) for n, done in zip(names, found, strict=True)}})

    @app.post("/v1/feedback", openapi_extra=schema_of(Feedback))
    async def feedback(request: Request) -> Response:
        """What the right answer was."""
        _, given = await service.open(request, "feedback", Feedback)
        fleet.find(given.task, "")
        right = given.right if given.right is not None else given.answer == given.label
        figures.feedback(given.task, given.version, right)
        watch.feedback(given.task, given.version, right)
        return JSONResponse({"taken": True})

    add_routes(app, service)
    admin.add_routes(app, service, Steering(fleet, follower))
    return Guarded(app, service.keys)
