"""What a trace says of a request: which versions answered how many rows of it, and never what was asked."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

pytest.importorskip("opentelemetry.sdk")
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from adapterkit.serving.app import create_app
from adapterkit.serving.fleet import Fleet
from adapterkit.serving.traces import Traces

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_request_is_a_span_with_one_for_every_version_that_answered(fleet: Fleet) -> None:
    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    rows = [{"task": "intent", "text": "my secret card"}] * 2 + [{"task": "tags", "text": "a secret"}, {"task": "no"}]
    with TestClient(create_app(fleet, traces=Traces(provider.get_tracer("test")))) as client:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        client.post("/v1/predict", json={"rows": rows}, headers=headers)
    *versions, request = sorted(kept.get_finished_spans(), key=lambda span: span.name, reverse=True)
    assert (request.name, f"{request.context.trace_id:032x}") == ("adapterkit.request", TRACE)
    assert f"{request.parent.span_id:016x}" == PARENT
    assert dict(request.attributes) == {
        "http.route": "/v1/predict",
        "adapterkit.rows": 4,
        "adapterkit.errors.not_mounted": 1,
    }
    found = {span.attributes["adapterkit.task"]: span for span in versions}
    assert {task: span.attributes["adapterkit.rows"] for task, span in found.items()} == {"intent": 2, "tags": 1}
    assert found["tags"].attributes["adapterkit.artifact"] == fleet.routes["tags"].arms["stable"].digest
    assert found["tags"].attributes["adapterkit.arm"] == "stable"
    assert {span.parent.span_id for span in versions} == {request.context.span_id}
    assert "secret" not in "".join(span.to_json() for span in kept.get_finished_spans())
