"""The log for its readers: checkpoint, tiles (C2SP tlog-tiles), single entries, consistency proofs."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query
from starlette.responses import PlainTextResponse, Response

from safeai_git.core.errors import FormatError
from safeai_git.core.log.merkle import consistency_path
from safeai_git.core.log.tiles import WIDTH, Tile, content, format_bundle
from safeai_git.governor.http import examples
from safeai_git.governor.http.bodies import need_anywhere
from safeai_git.governor.http.callers import Caller, Served, need
from safeai_git.governor.http.problems import responses
from safeai_git.governor.problem import Problem
from safeai_git.governor.service import Governor
from safeai_git.governor.stores.port import covered

MOST = 2**53
FOREVER = "private, max-age=31536000, immutable"
TEXT = "text/plain; charset=utf-8"

router = APIRouter(tags=["log"])


def _checkpoint(note: bytes | None) -> Response:
    if note is None:
        raise Problem("unavailable", "the log has no checkpoint yet that may be shown")
    return Response(note, media_type=TEXT, headers={"Cache-Control": "public, max-age=1"})


def _size(governor: Governor) -> int:
    return covered(governor.checkpoint())


@router.get(
    "/v1/checkpoint",
    summary="The newest checkpoint",
    response_class=PlainTextResponse,
    responses={
        200: {"description": "A signed note (C2SP tlog-checkpoint).", "content": examples.CHECKPOINT},
        **responses(),
    },
)
async def checkpoint(governor: Served) -> Response:
    """Public: it says how large the log is and what its root is, and nothing of what stands in it."""
    return _checkpoint(governor.checkpoint())


@router.get("/log/checkpoint", include_in_schema=False)
async def tiles_checkpoint(governor: Served) -> Response:
    """The same, where readers of tiles look for it; a cosigned one, as long as the witnesses keep up."""
    return _checkpoint(governor.settled())


@router.get(
    "/log/tile/{path:path}",
    summary="A tile, or a bundle of entries",
    response_class=Response,
    responses={
        200: {
            "description": "Hashes of 32 bytes each, or entries behind their lengths (C2SP tlog-tiles).",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        },
        **responses("malformed", "not-authenticated", "forbidden", "not-found"),
    },
)
async def tile(
    principal: Caller,
    governor: Served,
    path: Annotated[
        str, Path(description="As tlog-tiles has it.", examples=["0/000.p/5", "entries/000.p/5"])
    ],
) -> Response:
    """Read the log as any transparency log's client does; see ``/log/checkpoint`` for its size."""
    need(principal, "log:read")
    try:
        wanted = Tile.parse(f"tile/{path}")
    except FormatError as error:
        raise Problem("malformed", error.message) from None
    if not wanted.is_in(_size(governor)):
        raise Problem("not-found", "the log is not that large")
    data = await asyncio.to_thread(_tile, governor, wanted)
    return Response(data, media_type="application/octet-stream", headers={"Cache-Control": FOREVER})


def _tile(governor: Governor, wanted: Tile) -> bytes:
    store = governor.log.store
    if wanted.level >= 0:
        return content(wanted, store.node)
    entries = store.read(wanted.index * WIDTH, wanted.width)
    if len(entries) != wanted.width:
        raise Problem("unavailable", "these entries cannot be read now")
    return format_bundle(entries)


@router.get(
    "/v1/entries/{index}",
    summary="One entry, as its exact bytes, or its receipt",
    response_class=Response,
    responses={
        200: {
            "description": "The entry's line; with ``receipt`` its tlog-proof.",
            "content": {**examples.ENTRY, **examples.PROOF},
        },
        **responses("malformed", "not-authenticated", "forbidden", "not-found"),
    },
)
async def entry(
    principal: Caller,
    governor: Served,
    index: Annotated[int, Path(ge=0, lt=MOST, description="Its place, from 0.")],
    receipt: Annotated[bool, Query(description="The receipt instead of the entry.")] = False,
) -> Response:
    """The bytes are the leaf of the log's tree: SHA-256 over 0x00 and these."""
    need(principal, "entries:read")
    if index >= _size(governor):
        raise Problem("not-found", f"the log has no entry {index} under its newest checkpoint")
    if receipt:
        found = await asyncio.to_thread(lambda: governor.receipt(index).proof().format())
        return Response(found, media_type=TEXT)
    line = await asyncio.to_thread(governor.log.store.entry, index)
    return Response(line, media_type="application/json", headers={"Cache-Control": FOREVER})


@router.get(
    "/v1/consistency",
    summary="Proof that the log only grew",
    responses={
        200: {"description": "The hashes of RFC 6962 §2.1.2, in base64.", "content": examples.CONSISTENCY},
        **responses("malformed", "not-authenticated", "forbidden", "not-found"),
    },
)
async def consistency(
    principal: Caller,
    governor: Served,
    old: Annotated[int, Query(alias="from", ge=0, lt=MOST, description="The size that you know.")],
    new: Annotated[int, Query(alias="to", ge=0, lt=MOST, description="The size of a newer checkpoint.")],
) -> Response:
    """Prove that the log of one size is the beginning of that of another."""
    need_anywhere(principal, "verdicts:write", "incidents:write", "log:read", "entries:read")
    if old > new:
        raise Problem("malformed", "'from' is the smaller size")
    if new > _size(governor):
        raise Problem("not-found", "the newest checkpoint covers less than 'to'")
    path = await asyncio.to_thread(lambda: list(consistency_path(old, new, governor.log.store.node)))
    found = {"from": old, "to": new, "hashes": [b64encode(one).decode() for one in path]}
    return Response(msgspec.json.encode(found), media_type="application/json")
