"""``/v1/kill-switch``: engage, release, and the lease that clients ask for."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal, cast

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from safeai_git.core.errors import StorageError
from safeai_git.core.kill_switch import Kind, Scope
from safeai_git.core.trust import format_time
from safeai_git.governor.audit_log import Receipt
from safeai_git.governor.http import shapes
from safeai_git.governor.http.bodies import document_answer, json_answer, logged, moment, name_of, read_json
from safeai_git.governor.http.callers import Caller, Served, caller, is_nobody, need
from safeai_git.governor.http.problems import responses
from safeai_git.governor.problem import Problem
from safeai_git.governor.service import Governor

router = APIRouter(tags=["kill switch"])


class WantedScope(msgspec.Struct, forbid_unknown_fields=True):
    """What a switch stops."""

    kind: str
    name: str = ""


class Turn(msgspec.Struct, forbid_unknown_fields=True):
    """What somebody wants to be done with a switch."""

    action: Literal["engage", "release"]
    scope: WantedScope
    reason: str
    expires: str | None = None


@router.get(
    "/v1/kill-switch",
    summary="The lease for one repository, or what is engaged",
    responses={
        200: {"description": "The lease; without a repository what is engaged.", "content": shapes.SWITCHES},
        304: {"description": "It is the one that If-None-Match names."},
        **responses("malformed", "not-authenticated", "forbidden"),
    },
)
async def lease(
    request: Request,
    governor: Served,
    repository: Annotated[
        str | None, Query(description="As the repository's policy names it.", examples=["acme/shop"])
    ] = None,
) -> Response:
    """The lease is signed and known for a while without asking: docs/formats/kill-switch.md.

    For a repository of SAFEAI_PUBLIC_REPOSITORIES nobody has to say who asks, and the reason is left out then.
    """
    if repository in governor.settings.public_repositories and is_nobody(request, governor):
        document = await asyncio.to_thread(governor.services.switches.lease, repository, public=True)
        return document_answer(request, document, "application/json", "public, no-cache")
    need(await caller(request, governor), "policy:read", repository=repository)
    if repository is None:
        return json_answer({"engaged": await asyncio.to_thread(_engaged, governor)})
    document = await asyncio.to_thread(governor.services.switches.lease, repository)
    return document_answer(request, document, "application/json", "private, no-cache")


def _engaged(governor: Governor) -> list[dict[str, Any]]:
    governor.services.records.follower.catch_up()
    return [
        {
            "scope": {"kind": one.scope.kind, "name": one.scope.name},
            "reason": one.reason,
            "by": one.by,
            "time": format_time(one.time),
            "expires": None if one.expires is None else format_time(one.expires),
        }
        for one in governor.services.switches.engaged()
    ]


@router.post(
    "/v1/kill-switch",
    status_code=201,
    summary="Engage or release a kill switch",
    openapi_extra={"requestBody": shapes.SWITCH_BODY},
    responses={
        201: {"description": "It is on the log, and holds.", "content": shapes.SWITCH_ANSWER},
        **responses("malformed", "not-authenticated", "forbidden", "unsupported-media-type"),
    },
)
async def turn(request: Request, principal: Caller, governor: Served) -> Response:
    """Engaging holds at once; releasing once it is durable, and where so configured only by a second person."""
    wanted = await read_json(request, Turn)
    name = wanted.scope.name if wanted.scope.kind == "repository" else None
    need(principal, f"kill-switch:{wanted.action}", repository=name)
    receipt = await asyncio.to_thread(_turn, governor, wanted, name_of(principal))
    return json_answer(logged(receipt), 201)


def _turn(governor: Governor, wanted: Turn, by: str) -> Receipt:
    scope = Scope(cast("Kind", wanted.scope.kind), wanted.scope.name)
    if wanted.action == "release":
        if wanted.expires is not None:
            raise Problem("malformed", "a release has no 'expires'")
        return governor.services.switches.release(scope, reason=wanted.reason, by=by)
    expires = moment(wanted.expires, "expires")
    try:
        return governor.services.switches.engage(scope, reason=wanted.reason, by=by, expires=expires)
    except StorageError:
        raise Problem(
            "unavailable",
            "the kill switch is engaged in this process, and the log could not take it",
            "engage it again until it is on the log: only then other replicas, and this one after a restart, know",
        ) from None
