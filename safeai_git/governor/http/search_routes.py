"""``GET /v1/entries``: search over the log."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from safeai_git.core.errors import DeadlinePassed, StorageError
from safeai_git.governor.http import shapes
from safeai_git.governor.http.bodies import json_answer
from safeai_git.governor.http.callers import Caller, Served, need
from safeai_git.governor.http.problems import responses
from safeai_git.governor.problem import Problem
from safeai_git.governor.search import DEFAULT, MOST, Page, entry_data
from safeai_git.governor.service import Governor

router = APIRouter(tags=["log"])

Wanted = Annotated[str | None, Query(max_length=200)]


@router.get(
    "/v1/entries",
    summary="Search the log",
    responses={
        200: {"description": "A page, the newest entries first.", "content": shapes.ENTRIES},
        **responses("malformed", "not-authenticated", "forbidden"),
    },
)
async def entries(
    principal: Caller,
    governor: Served,
    repository: Wanted = None,
    agent: Wanted = None,
    human: Wanted = None,
    decision: Wanted = None,
    rule: Wanted = None,
    kind: Wanted = None,
    since: Annotated[str, Query(description="Not older than this.", examples=["2026-05-28"])] = "",
    until: Annotated[str, Query(description="Older than this.")] = "",
    cursor: Annotated[str, Query(max_length=60, description="'next' of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=MOST)] = DEFAULT,
) -> Response:
    """Entries that are about all that is named. Pages hold still while new entries come."""
    need(principal, "entries:read", repository=repository)
    named = {
        "repository": repository,
        "agent": agent,
        "human": human,
        "decision": decision,
        "rule": rule,
        "kind": kind,
    }
    wanted = {name: value for name, value in named.items() if value is not None}
    page = await asyncio.to_thread(_page, governor, wanted, since, until, cursor, limit)
    found = [entry_data(line) for line in page.entries]
    return json_answer({"entries": found, "next": page.cursor or None})


def _page(
    governor: Governor, wanted: dict[str, str], since: str, until: str, cursor: str, limit: int
) -> Page:
    try:
        return governor.services.search.page(wanted, since=since, until=until, cursor=cursor, limit=limit)
    except DeadlinePassed as error:
        raise Problem("unavailable", error.message, error.hint) from None
    except StorageError:
        raise Problem(
            "unavailable", "the search index is not ready, or the log cannot be read", "try again in a moment"
        ) from None
