"""Serves a witness: two routes of C2SP tlog-witness, for anybody."""

from __future__ import annotations

import asyncio

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from safeai_git.core.errors import SafeAIError
from safeai_git.governor.witness import MOST_BODY, TEXT, Reply, Witness

BODY_SECONDS = 10.0


def create_witness_app(witness: Witness) -> Starlette:
    """The application that serves a witness."""

    async def add(request: Request) -> Response:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _body(request)
        except TimeoutError:
            return Response("the body took too long\n", 408, media_type=TEXT)
        if body is None:
            return Response(f"a request has at most {MOST_BODY:,} bytes\n", 413, media_type=TEXT)
        try:
            return _answer(await asyncio.to_thread(witness.add_checkpoint, body))
        except SafeAIError:
            return Response("this witness cannot cosign now\n", 503, {"Retry-After": "10"}, TEXT)

    async def newest(request: Request) -> Response:
        try:
            found = await asyncio.to_thread(witness.checkpoint, request.path_params["digest"])
        except SafeAIError:
            return Response("it cannot be read now\n", 503, {"Retry-After": "10"}, TEXT)
        return _answer(
            Reply(404, b"no such log, or nothing cosigned yet\n") if found is None else Reply(200, found)
        )

    routes = [
        Route("/add-checkpoint", add, methods=["POST"]),
        Route("/{digest}/checkpoint", newest, methods=["GET"]),
    ]
    return Starlette(routes=routes)


async def _body(request: Request) -> bytes | None:
    """The body; ``None`` where there is more than a request may have."""
    parts: list[bytes] = []
    left = MOST_BODY
    async for part in request.stream():
        left -= len(part)
        if left < 0:
            return None
        parts.append(part)
    return b"".join(parts)


def _answer(reply: Reply) -> Response:
    return Response(reply.body, reply.status, {"Content-Type": reply.media_type, "Cache-Control": "no-store"})


def serve_witness(witness: Witness, host: str, port: int) -> None:
    """Serve until a signal comes."""
    uvicorn.run(
        create_witness_app(witness),
        host=host,
        port=port,
        loop="uvloop",
        ws="none",
        log_level="warning",
        server_header=False,
        limit_concurrency=256,
        timeout_keep_alive=10,
    )
