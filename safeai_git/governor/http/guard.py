"""What stands before every route: request ids, limits of size and time, counting, one line of log a request."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from safeai_git.core.errors import SafeAIError
from safeai_git.governor.http.problems import answer
from safeai_git.governor.metrics import Metrics
from safeai_git.governor.problem import Problem, of_error

if TYPE_CHECKING:
    from safeai_git.governor.http.traces import Traces

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}

log = structlog.get_logger("safeai.http")


def request_id(scope: Mapping[str, Any]) -> str:
    """The id of a request: what its sender said, if that can be one, else a new one."""
    state: MutableMapping[str, Any] = scope["state"]
    if "request_id" not in state:
        said = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        state["request_id"] = said if _REQUEST_ID.fullmatch(said) else secrets.token_hex(8)
    return str(state["request_id"])


class Guard:
    """ASGI middleware around all routes.

    Args:
        app: What is guarded.
        metrics: Where answers are counted.
        most_bytes: Largest body.
        body_seconds: How long a body may take to arrive, whole.
        traces: Where spans are made; ``None`` for nowhere.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        most_bytes: int,
        body_seconds: float,
        traces: Traces | None = None,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._most_bytes = most_bytes
        self._body_seconds = body_seconds
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        scope.setdefault("state", {})
        name = request_id(scope)
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = name
                headers.setdefault("Cache-Control", "no-store")
                for key, value in _HEADERS.items():
                    headers.setdefault(key, value)
            await send(message)

        try:
            await self._app(scope, self._bounded(scope, receive), sending)
        except ClientDisconnect:
            status = 499  # nginx's number for it
        except Exception as error:
            if status:
                raise
            await answer(self._told(error, name), name)(scope, receive, sending)
        finally:
            self._count(scope, status, time.perf_counter() - started, name)

    def _told(self, error: Exception, name: str) -> Problem:
        if isinstance(error, Problem):
            return error
        if isinstance(error, SafeAIError):
            log.warning("could not answer", request_id=name, error=type(error).__name__, detail=error.message)
            return of_error(error)
        log.error("a fault of the program", request_id=name, exc_info=error)
        return Problem(
            "fault", "something went wrong here", "quote the request_id to whoever runs this Governor"
        )

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """Receive no more than is allowed, in no more time."""
        for key, value in scope["headers"]:
            if key == b"content-length" and (not value.isdigit() or int(value[:18]) > self._most_bytes):
                return self._refusing
        left = self._most_bytes
        until: float | None = None

        async def receiving() -> Message:
            nonlocal left, until
            now = asyncio.get_running_loop().time()
            until = until or now + self._body_seconds
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise Problem(
                    "too-slow", f"the body did not arrive within {self._body_seconds:g} seconds"
                ) from None
            if message["type"] == "http.request":
                left -= len(message.get("body", b""))
                if left < 0:
                    raise self._too_large()
                if not message.get("more_body", False):
                    until = float("inf")  # from here on only a disconnect can come
            return message

        return receiving

    async def _refusing(self) -> Message:
        raise self._too_large()

    def _too_large(self) -> Problem:
        return Problem("too-large", f"a body has at most {self._most_bytes:,} bytes", "send it in parts")

    def _count(self, scope: Scope, status: int, seconds: float, name: str) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self._metrics.requests.labels(str(status), route).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        if self._traces is not None:
            self._traces.answered(scope, route, status, seconds, name)
        level = "info" if status < 500 and route not in ("/livez", "/readyz", "/metrics") else "debug"
        if status >= 500:
            level = "warning"
        getattr(log, level)(
            "answered",
            request_id=name,
            method=scope["method"][:10],
            route=route,
            status=status,
            milliseconds=round(seconds * 1000, 2),
            peer=(scope.get("client") or ("",))[0],
            subject=scope["state"].get("subject", ""),
        )
