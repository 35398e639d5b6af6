"""Probes, metrics and the page for people."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from safeai_git.governor.http import dashboard, examples
from safeai_git.governor.http.callers import Served
from safeai_git.governor.http.problems import responses
from safeai_git.governor.metrics import CONTENT_TYPE
from safeai_git.governor.problem import Problem

router = APIRouter(tags=["operation"])


@router.get(
    "/livez",
    summary="Whether the process answers",
    response_class=PlainTextResponse,
    responses={200: {"description": "It does.", "content": examples.OK}, **responses()},
)
async def alive() -> Response:
    """Says nothing about the log: restarting helps against a process that hangs, not against a full disk."""
    return PlainTextResponse("ok\n")


@router.get(
    "/readyz",
    summary="Whether it can take verdicts",
    response_class=PlainTextResponse,
    responses={200: {"description": "It can.", "content": examples.OK}, **responses()},
)
async def ready(governor: Served) -> Response:
    """503, with the reason, while the log cannot be written, or what follows from it is not up to date."""
    if why := await asyncio.to_thread(governor.not_ready):
        raise Problem("unavailable", why)
    return PlainTextResponse("ok\n")


@router.get(
    "/metrics",
    summary="Counters for Prometheus",
    response_class=PlainTextResponse,
    responses={200: {"description": "Text format 0.0.4.", "content": examples.METRICS}, **responses()},
)
async def metrics(governor: Served) -> Response:
    """Open to whoever reaches the port, as probes are: no name of a repository or a person stands in it."""
    return Response(await asyncio.to_thread(governor.metrics.text), headers={"Content-Type": CONTENT_TYPE})


@router.get("/", include_in_schema=False)
async def page(governor: Served) -> Response:
    """What the log's head says, for people. Nothing here needs a token, and nothing here is secret."""
    text = await asyncio.to_thread(dashboard.page, governor)
    return HTMLResponse(text, headers={"Content-Security-Policy": dashboard.POLICY})
