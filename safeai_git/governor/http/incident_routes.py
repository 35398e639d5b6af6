"""``POST /v1/incidents``: what a server found on its protected refs without a verdict."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from safeai_git.core.errors import FormatError
from safeai_git.core.incident import KIND, Incident
from safeai_git.core.log.entry import Draft
from safeai_git.governor.audit_log import Receipt, Result
from safeai_git.governor.auth.principal import Principal
from safeai_git.governor.http import shapes
from safeai_git.governor.http.bodies import json_answer, logged, name_of, need_anywhere, read_json
from safeai_git.governor.http.callers import Caller, Served, need
from safeai_git.governor.http.guard import request_id
from safeai_git.governor.http.problems import responses
from safeai_git.governor.http.submitter import Submitter
from safeai_git.governor.problem import Problem
from safeai_git.governor.records import FRESH_SECONDS
from safeai_git.governor.service import Governor

SCOPE = "incidents:write"

router = APIRouter(tags=["incidents"])


class Reports(msgspec.Struct, forbid_unknown_fields=True):
    """Several reports at once."""

    incidents: list[dict[str, Any]]


@router.post(
    "/v1/incidents",
    summary="Report commits that reached a protected ref without a verdict",
    openapi_extra={"requestBody": shapes.INCIDENTS_BODY},
    responses={
        200: {
            "description": "The results, in the reports' order; durable.",
            "content": shapes.INCIDENT_RESULTS,
        },
        **responses("malformed", "not-authenticated", "forbidden", "unsupported-media-type", "too-large"),
    },
)
async def report(request: Request, principal: Caller, governor: Served) -> Response:
    """Each report becomes an entry of the log, once, however often it is sent. Format: docs/formats/incident.md."""
    need_anywhere(principal, SCOPE)
    wanted = (await read_json(request, Reports)).incidents
    if not wanted:
        raise Problem("malformed", "the list 'incidents' is empty")
    if len(wanted) > governor.settings.max_batch:
        raise Problem(
            "too-large",
            f"there are {len(wanted):,} reports; {governor.settings.max_batch:,} are taken at once",
            "send them in parts",
        )
    by = name_of(principal)
    checked = await asyncio.to_thread(_check, wanted, principal, by, governor)
    drafts = [one[1] for one in checked if not isinstance(one, Problem)]
    submitter: Submitter = request.app.state.submitter
    results = iter(await submitter.submit(drafts) if drafts else ())
    name = request_id(request.scope)
    told: list[dict[str, Any]] = []
    for one in checked:
        answer = one if isinstance(one, Problem) else _answer(governor, one[0], next(results), by)
        told.append({"problem": answer.data(name)} if isinstance(answer, Problem) else answer)
    return json_answer({"results": told})


def _check(
    wanted: list[dict[str, Any]], principal: Principal, by: str, governor: Governor
) -> list[tuple[Incident, Draft] | Problem]:
    governor.services.records.follower.need(FRESH_SECONDS)
    found: list[tuple[Incident, Draft] | Problem] = []
    for data in wanted:
        try:
            one = Incident.of_data(data)
            if one.repository:  # none where the policy that would name it cannot be read
                need(principal, SCOPE, repository=one.repository)
            found.append((one, Draft.of_data(KIND, *one.logged(by))))
        except FormatError as error:
            found.append(Problem("malformed", error.message, error.hint))
        except Problem as problem:
            found.append(problem)
    return found


def _answer(governor: Governor, one: Incident, result: Result, by: str) -> dict[str, Any] | Problem:
    if not isinstance(result, Receipt):
        return Problem("conflict", f"entry {result.index} of the log has this id and another body")
    if not result.repeated:
        governor.metrics.without_verdict(status for _, status in one.commits)
    return logged(result, by=by)
