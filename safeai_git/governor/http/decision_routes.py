"""``POST /v1/decisions``: have the Governor judge a change."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from safeai_git.core.errors import DeadlinePassed, RepositoryError
from safeai_git.core.finding import Outcome
from safeai_git.core.values import replace
from safeai_git.governor.decisions import Answer, Busy, Question, TooManyCommits
from safeai_git.governor.http import shapes
from safeai_git.governor.http.bodies import content_type, json_answer, name_of
from safeai_git.governor.http.callers import Caller, Served, need
from safeai_git.governor.http.problems import responses
from safeai_git.governor.http.submitter import WITNESS_SECONDS, too_few_witnesses
from safeai_git.governor.problem import Problem
from safeai_git.governor.service import Governor
from safeai_git.governor.witnesses import Witnesses

router = APIRouter(tags=["decisions"])

Commit = Annotated[str, Query(pattern="^[0-9a-f]{40}$", examples=["9f" * 20])]


@router.post(
    "/v1/decisions",
    status_code=200,
    summary="Have a change judged",
    openapi_extra={"requestBody": shapes.DECISION_BODY},
    responses={
        200: {"description": "What was decided, signed and on the log.", "content": shapes.DECISION},
        **responses("malformed", "not-authenticated", "forbidden", "too-large", "unsupported-media-type"),
    },
)
async def decide(
    request: Request,
    principal: Caller,
    governor: Served,
    repository: Annotated[str, Query(min_length=1, max_length=200, examples=["acme/shop"])],
    base: Commit,
    head: Commit,
    branch: Annotated[str, Query(max_length=200, description="The change's branch.")] = "",
) -> Response:
    """The body is a git bundle with both commits whole and what lies between; the policy is that of `base`.

    The verdicts come back signed with the Governor's key, each with its report and its receipt.
    """
    need(principal, "decisions:write", repository=repository)
    if content_type(request) != shapes.BUNDLE_TYPE:
        raise Problem("unsupported-media-type", f"the body must be {shapes.BUNDLE_TYPE}")
    question = Question(
        repository,
        base,
        head,
        name_of(principal),
        branch,
        dict(principal.claims),
        everywhere=principal.may("decisions:write"),
    )
    return json_answer(await asyncio.to_thread(_decide, governor, question, await request.body()))


def _decide(governor: Governor, question: Question, bundle: bytes) -> dict[str, Any]:
    try:
        answer = governor.services.decisions.decide(question, bundle)
    except TooManyCommits as error:
        raise Problem("too-large", error.message, "send it in parts") from None
    except DeadlinePassed as error:
        raise Problem("too-large", error.message, "split the change") from None
    except RepositoryError as error:
        raise Problem("malformed", f"the change cannot be read: {error.message}", _BUNDLE_HINT) from None
    except Busy as error:
        raise Problem("unavailable", error.message, error.hint) from None
    _count(governor, answer)
    return _witnessed(governor.witnesses, answer).data()


def _witnessed(witnesses: Witnesses | None, answer: Answer) -> Answer:
    """The answer; where witnesses are required, under what they cosigned."""
    if witnesses is None or not witnesses.required:
        return answer
    if not witnesses.wait(answer.receipt.index + 1, WITNESS_SECONDS):  # the last of its entries
        raise too_few_witnesses()
    signed = tuple(replace(one, receipt=witnesses.receipt(one.receipt)) for one in answer.signed)
    return replace(answer, signed=signed, receipt=witnesses.receipt(answer.receipt))


_BUNDLE_HINT = "the bundle has to hold both commits with their trees, and everything between them"


def _count(governor: Governor, answer: Answer) -> None:
    for one in answer.signed:
        verdict = one.judgement.verdict
        governor.metrics.verdicts.labels(verdict.decision).inc()
        if verdict.decision == Outcome.DENY.word:
            governor.metrics.blocked(max(verdict.findings, key=lambda finding: finding.outcome).rule)
        for ran in verdict.context.evidence.values():
            if ran.isolation:
                code = "none" if ran.exit_code is None else str(ran.exit_code)
                governor.metrics.sandbox_runs.labels(code).inc()
                governor.metrics.sandbox_seconds.observe(ran.seconds)
