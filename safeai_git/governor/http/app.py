"""The application: every route, behind the guard, with the OpenAPI document that describes them."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.responses import Response

from safeai_git import __version__
from safeai_git.core.errors import WrongUse
from safeai_git.governor.http import (
    decision_routes,
    examples,
    health,
    incident_routes,
    key_routes,
    log_routes,
    policy_routes,
    search_routes,
    switch_routes,
    verdicts,
)
from safeai_git.governor.http.callers import Rates
from safeai_git.governor.http.direct import Direct
from safeai_git.governor.http.guard import Guard, request_id
from safeai_git.governor.http.problems import SCHEMA, answer
from safeai_git.governor.http.submitter import Submitter
from safeai_git.governor.problem import Problem, Word
from safeai_git.governor.service import Governor

if TYPE_CHECKING:
    from safeai_git.governor.http.traces import Traces

ROUTERS: tuple[APIRouter, ...] = (
    verdicts.router,
    decision_routes.router,
    incident_routes.router,
    search_routes.router,
    log_routes.router,
    key_routes.router,
    policy_routes.router,
    switch_routes.router,
    health.router,
)
"""Every router. More specific paths first."""

_PUBLIC = [("get", path) for path in ("/livez", "/readyz", "/metrics", "/v1/checkpoint", "/v1/keys")]
_DESCRIPTION = """Takes in signed verdicts, keeps them on a log that nobody can quietly rewrite, and hands out receipts.

Errors are `application/problem+json` (RFC 9457); `type` ends in a word for programs, `hint` says what to do.
Asking again under the same ids is always safe."""

_WORDS: dict[int, Word] = {
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    415: "unsupported-media-type",
}


def create_app(governor: Governor, routers: Sequence[APIRouter] = ROUTERS) -> FastAPI:
    """The application that serves a Governor. Closing the Governor is left to whoever opened it."""
    traces = _traces() if governor.settings.traces else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.submitter = Submitter(governor.log)
        yield
        if traces is not None:
            await asyncio.to_thread(traces.close)

    app = FastAPI(
        title="safeai-git Governor",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
        # FastAPI's own would send paths, queries and faults; see `traces`.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.governor = governor
    app.state.rates = Rates(governor.settings.requests_per_minute)
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    if verdicts.router in routers:
        app.add_middleware(Direct, route=verdicts.SUBMIT, answer=verdicts.submit_directly)
    app.add_middleware(
        Guard,
        metrics=governor.metrics,
        most_bytes=governor.settings.max_body_bytes,
        body_seconds=governor.settings.body_seconds,
        traces=traces,
    )
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's own way to extend it
    return app


def _traces() -> Traces:
    try:
        traces: Traces = importlib.import_module("safeai_git.governor.http.traces").Traces()
    except ImportError:
        raise WrongUse(
            "SAFEAI_TRACES is on, and OpenTelemetry is not installed here",
            hint="pip install 'safeai-git[otel]', or leave it off",
        ) from None
    return traces


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return answer(error, request_id(request.scope))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    word = _WORDS.get(error.status_code, "malformed")
    detail = {
        "not-found": "there is no such path",
        "method-not-allowed": f"{request.method[:20]!a} is not answered here",
    }
    response = answer(
        Problem(word, detail.get(word, str(error.detail)), "GET /openapi.json lists what there is"),
        request_id(request.scope),
    )
    response.headers.update(error.headers or {})
    return response


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first: dict[str, Any] = error.errors()[0]
    where = " ".join(str(one) for one in first["loc"])
    problem = Problem("malformed", f"{where}: {first['msg']}")
    return answer(problem, request_id(request.scope))


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is not None:
        return app.openapi_schema
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    components = document.setdefault("components", {})
    components["schemas"] = {
        "Problem": SCHEMA,
        "Envelope": examples.ENVELOPE,
        "Result": examples.RESULT,
        "ProblemResult": examples.PROBLEM_RESULT,
    }
    components["securitySchemes"] = {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "A token of the Governor's own issuer, or a CI job's OIDC token.",
        },
        "certificate": {"type": "mutualTLS", "description": "A client certificate that the rules name."},
    }
    document["security"] = [{"token": []}, {"certificate": []}]
    for path, item in document["paths"].items():
        for method, operation in item.items():
            operation["responses"].pop("422", None) if _made_up(operation) else None
            if (method, path) in _PUBLIC:
                operation["security"] = []
    app.openapi_schema = document
    return document


def _made_up(operation: dict[str, Any]) -> bool:
    """Whether the 422 is FastAPI's own, which we never answer: ours is a problem."""
    content = operation["responses"].get("422", {}).get("content", {})
    return "application/json" in content
