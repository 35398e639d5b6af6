"""The way past the router for the one route that is asked for thousands of times a second.

What FastAPI does between a request and its function is half of the time of a verdict. The route stays declared, for the
document and for whoever looks at the application; a request that fits it exactly is answered by the same functions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send


class Direct:
    """ASGI middleware, to stand right inside `Guard`, which makes answers of what is raised here.

    Args:
        app: Answers everything else.
        route: What is answered here: its path, without parameters, by `POST`.
        answer: How.
    """

    def __init__(
        self, app: ASGIApp, *, route: APIRoute, answer: Callable[[Request], Awaitable[Response]]
    ) -> None:
        self._app = app
        self._route = route
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != self._route.path:
            await self._app(scope, receive, send)
            return
        scope["route"] = self._route  # by which it is counted
        response = await self._answer(Request(scope, receive, send))
        await response(scope, receive, send)
