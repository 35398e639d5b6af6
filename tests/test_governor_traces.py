"""OpenTelemetry traces: what a collector gets, what it never gets, and a collector that is away."""

from __future__ import annotations

import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from tools_cli import PATIENCE
from tools_governor import Governor, verdict
from tools_log import OTHER_SIGNER as DEV

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """Takes what is sent by OTLP over HTTP."""

    def __init__(self) -> None:
        got: queue.Queue[bytes] = queue.Queue()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                got.put(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.got = got
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def all(self) -> tuple[bytes, list[Span]]:
        """What came until now: the bytes, and the spans in them."""
        raw = [self.got.get(timeout=PATIENCE)]
        while not self.got.empty():
            raw.append(self.got.get())
        spans = [
            span
            for one in raw
            for resource in ExportTraceServiceRequest.FromString(one).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        return b"".join(raw), spans


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.server.shutdown()
    made.server.server_close()


def settings(url: str) -> dict[str, str]:
    return {"SAFEAI_TRACES": "on", "OTEL_EXPORTER_OTLP_ENDPOINT": url}


def test_a_request_is_a_span_of_the_callers_trace_and_says_nothing_of_its_contents(
    tmp_path: Path, collector: Collector
) -> None:
    carried = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "mine-1"}
    with Governor(tmp_path / "g", **settings(collector.url)) as governor:
        assert governor.register(DEV).status == 201
        envelope = verdict(1, DEV, repository="acme/hidden").format()
        assert governor.ask("POST", "/v1/verdicts", envelope, headers=carried).status == 201
        assert governor.ask("GET", "/v1/entries?repository=acme/hidden&human=peter").status == 200
        assert governor.ask("GET", "/livez", token=None).status == 200
        assert governor.ask("GET", "/no/acme/hidden").status == 404
        assert governor.ask("PROPFIND", "/v1/entries").status == 405
        assert governor.stop() == 0
    raw, spans = collector.all()
    assert sorted(span.name for span in spans) == [
        "GET /v1/entries", "GET none", "POST /v1/keys", "POST /v1/verdicts", "_OTHER /v1/entries",
    ]  # fmt: skip
    (one,) = [span for span in spans if span.name == "POST /v1/verdicts"]
    assert (one.trace_id.hex(), one.parent_span_id.hex(), one.kind) == (TRACE, PARENT, Span.SPAN_KIND_SERVER)
    assert 0 < one.end_time_unix_nano - one.start_time_unix_nano < PATIENCE * 1e9
    told = {each.key: each.value.string_value or each.value.int_value for each in one.attributes}
    assert told == {
        "http.request.method": "POST", "http.route": "/v1/verdicts", "http.response.status_code": 201,
        "safeai.request_id": "mine-1",
    }  # fmt: skip
    assert len({span.trace_id for span in spans}) == len(spans)
    for secret in (b"hidden", b"peter", b"Bearer", b"ci@example.com"):
        assert secret not in raw, secret


def test_a_fault_is_marked(tmp_path: Path, collector: Collector) -> None:
    with Governor(tmp_path / "g", **settings(collector.url), SAFEAI_MAX_OUTSTANDING="1") as governor:
        assert governor.register(DEV).status == 201
        body = b'{"envelopes":[' + b",".join(verdict(at, DEV).format() for at in range(3)) + b"]}"
        assert governor.ask("POST", "/v1/verdicts", body).status == 503
        assert governor.stop() == 0
    _, spans = collector.all()
    marked = {span.name: span.status.code for span in spans}
    assert marked == {
        "POST /v1/keys": Status.STATUS_CODE_UNSET,
        "POST /v1/verdicts": Status.STATUS_CODE_ERROR,
    }


def test_a_collector_that_is_away_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and never listens
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with Governor(tmp_path / "g", **settings(url)) as governor:
            assert governor.register(DEV).status == 201
            assert governor.ask("POST", "/v1/verdicts", verdict(1, DEV).format()).status == 201
            assert governor.stop(signal.SIGTERM) == 0
            assert governor.audit().returncode == 0


def test_without_the_packages_the_start_says_so(tmp_path: Path) -> None:
    """An interpreter that finds none of OpenTelemetry's SDK."""
    made = Governor(tmp_path / "g", SAFEAI_TRACES="on")
    code = "import sys; sys.modules['opentelemetry.sdk'] = None; from safeai_git.admin import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "serve"], env=made.environment, capture_output=True, timeout=PATIENCE
    )
    assert done.returncode == 2, done.stderr
    assert b"safeai-git[otel]" in done.stderr
