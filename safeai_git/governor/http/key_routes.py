"""``/v1/keys``: who may sign what."""

from __future__ import annotations

import asyncio

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from safeai_git.core.errors import FormatError
from safeai_git.core.publickey import parse_openssh
from safeai_git.governor.http import shapes
from safeai_git.governor.http.bodies import document_answer, json_answer, logged, moment, name_of, read_json
from safeai_git.governor.http.callers import Caller, Served, need
from safeai_git.governor.http.problems import responses
from safeai_git.governor.problem import Problem
from safeai_git.governor.service import Governor

router = APIRouter(tags=["keys"])


class KeyChange(msgspec.Struct, forbid_unknown_fields=True):
    """What somebody wants to be done with a key."""

    action: str
    public: str = ""
    key: str = ""
    principal: str = ""
    purposes: list[str] = []
    valid_after: str | None = None
    valid_before: str | None = None
    since: str | None = None
    reason: str = ""


@router.get(
    "/v1/keys",
    summary="The signed list of keys",
    response_class=Response,
    responses={
        200: {"description": "Two lines: an envelope, and the list.", "content": shapes.KEY_LIST},
        304: {"description": "It is the one that If-None-Match names."},
        **responses(),
    },
)
async def listed(request: Request, governor: Served) -> Response:
    """Public: keys are no secret. Format: docs/formats/key-list.md."""
    document = await asyncio.to_thread(governor.services.keys.document)
    return document_answer(request, document, shapes.KEY_LIST_TYPE, "public, max-age=60")


@router.post(
    "/v1/keys",
    status_code=201,
    summary="Register or revoke a key",
    openapi_extra={"requestBody": shapes.KEY_BODY},
    responses={
        201: {"description": "It is on the log, and holds.", "content": shapes.KEY_ANSWER},
        **responses("malformed", "not-authenticated", "forbidden", "conflict", "unsupported-media-type"),
    },
)
async def change(request: Request, principal: Caller, governor: Served) -> Response:
    """Registering a key anew replaces whose it is and what it is for. A revocation is for good."""
    need(principal, "keys:write")
    wanted = await read_json(request, KeyChange)
    return json_answer(await asyncio.to_thread(_change, governor, wanted, name_of(principal)), 201)


def _change(governor: Governor, wanted: KeyChange, by: str) -> dict[str, object]:
    if wanted.action == "register":
        if wanted.since is not None:
            raise Problem("malformed", "'since' is for revoking")
        try:
            public, _ = parse_openssh((wanted.public or wanted.key).strip().encode())
        except (FormatError, UnicodeEncodeError) as error:
            raise Problem("malformed", f"public: {error}", "send the key's .pub line") from None
        receipt = governor.services.keys.register(
            public,
            wanted.principal,
            wanted.purposes,
            reason=wanted.reason,
            by=by,
            valid_after=moment(wanted.valid_after, "valid_after"),
            valid_before=moment(wanted.valid_before, "valid_before"),
        )
        return logged(receipt, key=public.key_id)
    if wanted.action != "revoke":
        raise Problem("malformed", "'action' is register or revoke")
    if wanted.public or wanted.principal or wanted.purposes or wanted.valid_after or wanted.valid_before:
        raise Problem("malformed", "to revoke a key, say 'key', 'reason' and 'since', nothing else")
    since = moment(wanted.since, "since")
    receipt = governor.services.keys.revoke(wanted.key, reason=wanted.reason, by=by, since=since)
    return logged(receipt, key=wanted.key)
