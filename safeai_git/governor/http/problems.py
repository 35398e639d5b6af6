"""Problems as answers: ``application/problem+json`` (RFC 9457), and how the OpenAPI document speaks of them."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
from starlette.responses import Response

from safeai_git.governor.problem import STATUS, TYPE_PREFIX, Problem, Word

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = {"too-many-requests": 5, "unavailable": 2}


def answer(problem: Problem, request_id: str) -> Response:
    """A problem as an answer."""
    headers = {"Cache-Control": "no-store"}
    if problem.word in RETRY_SECONDS:
        headers["Retry-After"] = str(RETRY_SECONDS[problem.word])
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(msgspec.json.encode(problem.data(request_id)), problem.status, headers, MEDIA_TYPE)


SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "hint", "request_id"],
    "additionalProperties": False,
    "properties": {
        "type": {"type": "string", "enum": [TYPE_PREFIX + word for word in get_args(Word)]},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What is wrong."},
        "hint": {"type": "string", "description": "What to do; may be empty."},
        "request_id": {"type": "string", "description": "As in the answer's X-Request-Id."},
    },
}
"""The shape of every error, for the OpenAPI document."""


def responses(*words: Word) -> dict[int | str, dict[str, Any]]:
    """The errors of a route, for the OpenAPI document; those that every route can have are in it already."""
    found: dict[int | str, dict[str, Any]] = {}
    for word in (*words, "too-slow", "too-large", "too-many-requests", "fault", "unavailable"):
        problem = Problem(word, "…")
        entry = found.setdefault(
            problem.status,
            {
                "description": STATUS[word][1],
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
            },
        )
        entry["content"][MEDIA_TYPE]["examples"][word] = {"value": problem.data("6f9619ff8b86d011")}
    return found
