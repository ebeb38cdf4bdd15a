"""OpenTelemetry traces: a span for every request, and in it one for every version that answered rows of it. No text."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from adapterkit.errors import AdapterkitError, ServingError

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from adapterkit.serving.work import Done


class Traces:
    """Writes what requests did to a tracer; a request that names its own trace becomes a part of that."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    @contextmanager
    def asking(self, request: Request, rows: int) -> Iterator[list[Done]]:
        """The span of a request. What it was answered with is put into the list."""
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        route = getattr(request.scope.get("route"), "path", "")
        facts = {"http.route": route, "adapterkit.rows": rows}
        parent, began_ns = extract(dict(request.headers)), time.time_ns()
        span = self._tracer.start_span("adapterkit.request", parent, SpanKind.SERVER, facts, start_time=began_ns)
        found: list[Done] = []
        try:
            yield found
        except AdapterkitError as error:
            span.set_attribute("error.type", error.code)
            span.set_status(Status(StatusCode.ERROR))
            raise
        finally:
            whose = [done.receipt for done in found if done.receipt is not None]
            inside = set_span_in_context(span)
            for receipt, count in Counter(whose).items():
                own = {f"adapterkit.{name}": value for name, value in vars(receipt).items()}
                inner = self._tracer.start_span("adapterkit.version", inside, attributes=own, start_time=began_ns)
                inner.set_attribute("adapterkit.rows", count)
                inner.end()
            errors = Counter(done.error.code for done in found if done.error is not None)
            span.set_attributes({f"adapterkit.errors.{code}": count for code, count in errors.items()})
            span.end()


def exported_traces() -> tuple[Traces, Any]:
    """Traces that go where OpenTelemetry's environment variables say, and what sends the last of them.
    Raises ServingError: OpenTelemetry is not installed."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ServingError("traces need OpenTelemetry", remedy="pip install 'adapterkit[traces]'") from error
    provider = TracerProvider(resource=Resource.create({"service.name": "adapterkit"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Traces(provider.get_tracer("adapterkit")), provider.shutdown
