"""Traces of requests, by OpenTelemetry: one span for each, which joins the caller's trace where it names one.

A span says which route, which method, which status, how long, and the request's id, by which the Governor's own line about it
is found. It holds no path, query, header, body or name: whoever reads traces need not be whoever may read the log. Where to
and how many: the variables ``OTEL_…`` of OpenTelemetry's specification. A collector that is away costs lines, and nothing
else: spans wait in a queue that is bounded, and no request waits for them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from safeai_git import __version__

PROBES = frozenset({"/livez", "/readyz", "/metrics"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CARRIED = (b"traceparent", b"tracestate")


class Traces:
    """Makes spans, and sends them from a thread of its own."""

    def __init__(self) -> None:
        about = Resource.create({"service.name": "safe-ai-governor", "service.version": __version__})
        self._provider = TracerProvider(resource=about, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("safeai_git.governor", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def answered(
        self, scope: Mapping[str, Any], route: str, status: int, seconds: float, request_id: str
    ) -> None:
        """Note a request that was answered just now.

        Args:
            scope: Its ASGI scope.
            route: The route's pattern; ``none`` where none matched.
            status: The answer's status.
            seconds: How long it took.
            request_id: Its id.
        """
        if route in PROBES:
            return
        carried = {
            key.decode(): value.decode("latin-1") for key, value in scope["headers"] if key in _CARRIED
        }
        end = time.time_ns()
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        span = self._tracer.start_span(
            f"{method} {route}",
            context=self._propagator.extract(carried),
            kind=SpanKind.SERVER,
            start_time=end - round(seconds * 1e9),
            attributes={
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "safeai.request_id": request_id,
            },
        )
        if status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end(end)

    def close(self) -> None:
        """Send what waits, as far as the collector takes it, and end the thread."""
        self._provider.shutdown()
