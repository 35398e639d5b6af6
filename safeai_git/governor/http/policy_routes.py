"""``/v1/policy``: the organisation's policy."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from safeai_git.governor.http import shapes
from safeai_git.governor.http.bodies import (
    content_type,
    document_answer,
    json_answer,
    logged,
    moment,
    name_of,
    need_anywhere,
    read_json,
)
from safeai_git.governor.http.callers import Caller, Served, need
from safeai_git.governor.http.problems import responses
from safeai_git.governor.policies import PolicyTooLong, change_data
from safeai_git.governor.problem import Problem
from safeai_git.governor.service import Governor

router = APIRouter(tags=["policy"])


class NewPolicy(msgspec.Struct, forbid_unknown_fields=True):
    """A policy to publish."""

    policy: str
    expires: str
    version: int | None = None


@router.get(
    "/v1/policy",
    summary="The organisation's policy, signed",
    response_class=Response,
    responses={
        200: {"description": "An envelope's line, and the policy's text.", "content": shapes.POLICY},
        304: {"description": "It is the one that If-None-Match names."},
        **responses("not-authenticated", "forbidden", "not-found"),
    },
)
async def newest(request: Request, principal: Caller, governor: Served) -> Response:
    """The newest version, as it was signed: docs/formats/policy-envelope.md."""
    need_anywhere(principal, "policy:read")
    document = await asyncio.to_thread(governor.services.policies.document)
    if document is None:
        raise Problem("not-found", "no policy is published", "POST /v1/policy publishes one")
    return document_answer(request, document, shapes.POLICY_TYPE, "private, max-age=60")


@router.post(
    "/v1/policy",
    status_code=201,
    summary="Publish a policy",
    openapi_extra={"requestBody": shapes.POLICY_BODY},
    responses={
        201: {"description": "It is on the log, and holds.", "content": shapes.POLICY_ANSWER},
        **responses(
            "malformed",
            "not-authenticated",
            "forbidden",
            "conflict",
            "too-large",
            "unsupported-media-type",
        ),
    },
)
async def publish(
    request: Request,
    principal: Caller,
    governor: Served,
    version: Annotated[int | None, Query(ge=1, le=10**15, description="With a YAML body.")] = None,
    expires: Annotated[str | None, Query(description="With a YAML body: until when it counts.")] = None,
) -> Response:
    """Publish the next version. Answers what it changes, and whether that tightens or loosens."""
    need(principal, "policy:write")
    if content_type(request) in ("application/yaml", "application/x-yaml", "text/yaml"):
        text = await request.body()
    else:
        wanted = await read_json(request, NewPolicy)
        text, version, expires = wanted.policy.encode(), wanted.version, wanted.expires
    until = moment(expires, "expires")
    if until is None:
        raise Problem("malformed", "'expires' says until when the policy counts, and is missing")
    found = await asyncio.to_thread(_publish, governor, text, version, until, name_of(principal))
    return json_answer(found, 201)


def _publish(
    governor: Governor, text: bytes, version: int | None, expires: int, by: str
) -> dict[str, object]:
    try:
        made = governor.services.policies.publish(text, expires=expires, by=by, version=version)
    except PolicyTooLong as error:
        raise Problem("too-large", error.message, error.hint) from None
    difference = [change_data(one) for one in made.changes]
    return logged(made.receipt, version=made.version, difference=difference)
