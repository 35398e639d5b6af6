"""``POST /v1/verdicts`` and the receipts of what was taken in."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from fastapi import APIRouter, Path, Request
from fastapi.routing import APIRoute
from starlette.responses import PlainTextResponse, Response

from safeai_git.core.finding import Outcome
from safeai_git.governor.audit_log import Receipt, Result
from safeai_git.governor.auth.principal import Principal
from safeai_git.governor.http import examples
from safeai_git.governor.http.bodies import need_anywhere
from safeai_git.governor.http.callers import Caller, Served, caller, governor_of
from safeai_git.governor.http.guard import request_id
from safeai_git.governor.http.problems import responses
from safeai_git.governor.http.submitter import Submitter, witnessed
from safeai_git.governor.ingest import Taken, check, read, split
from safeai_git.governor.problem import Problem
from safeai_git.governor.records import FRESH_SECONDS
from safeai_git.governor.service import Governor
from safeai_git.governor.stores.port import Barred, Conflict

INLINE = 4
"""Envelopes that are checked in the event loop; more than these go to a thread."""

PROOF_TYPE = "text/plain; charset=utf-8"

router = APIRouter(tags=["verdicts"])


@router.post(
    "/v1/verdicts",
    status_code=201,
    summary="Submit verdicts and approvals",
    openapi_extra={"requestBody": examples.VERDICTS_BODY},
    responses={
        201: {"description": "It is on the log, and durable.", "content": examples.ONE_RESULT},
        200: {
            "description": "One that was there before, or the results of many, in their order.",
            "content": examples.RESULTS,
        },
        **responses(
            "malformed",
            "not-authenticated",
            "forbidden",
            "conflict",
            "unsupported-media-type",
            "unknown-key",
            "wrong-signature",
            "wrong-statement",
        ),
    },
)
async def submit(request: Request, principal: Caller, governor: Served) -> Response:
    """Take in one signed envelope, or ``{"envelopes": [...]}``.

    Answers when the entries are durable, each with its receipt: a C2SP tlog-proof that can be checked offline. Sending
    the same envelope again is safe and gives a receipt of the entry that is there.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem("unsupported-media-type", "the body must be application/json")
    many, raws = split(await request.body(), governor.settings.max_batch)
    if governor.services.records.follower.is_fresh(FRESH_SECONDS) and len(raws) <= INLINE:
        checked = _check(raws, principal, governor)
    else:
        checked = await asyncio.to_thread(_check, raws, principal, governor)
    submitter: Submitter = request.app.state.submitter
    good = [one for one in checked if isinstance(one, Taken)]
    placed = await submitter.submit([one.draft for one in good]) if good else ()
    for taken, result in zip(good, placed, strict=True):
        if isinstance(result, Receipt) and not result.repeated:
            _count(governor, taken)
    results = iter(await witnessed(governor.witnesses, placed))
    answers = [one if isinstance(one, Problem) else _answer(one, next(results)) for one in checked]
    if many:
        name = request_id(request.scope)
        told = [_in_list(one, raw, name) for one, raw in zip(answers, raws, strict=True)]
        return _json({"results": told}, 200)
    if isinstance(answers[0], Problem):
        raise answers[0]
    return _json(answers[0], 200 if answers[0]["repeated"] else 201)


SUBMIT = next(one for one in router.routes if isinstance(one, APIRoute))
"""The route of `submit`."""


async def submit_directly(request: Request) -> Response:
    """`submit`, for a request that came past the router."""
    governor = governor_of(request)
    return await submit(request, await caller(request, governor), governor)


def _check(raws: list[msgspec.Raw], principal: Principal, governor: Governor) -> list[Taken | Problem]:
    keys, now = governor.services.keys.fresh(), governor.services.records.now()
    found: list[Taken | Problem] = []
    for raw in raws:
        try:
            found.append(check(read(bytes(raw)), principal, governor.services.keys, keys, now))
        except Problem as problem:
            found.append(problem)
    return found


def _answer(taken: Taken, result: Result) -> dict[str, Any] | Problem:
    if isinstance(result, Barred):
        return Problem(
            "unknown-key", f"the key was revoked by entry {result.index} of the log, before this arrived"
        )
    if isinstance(result, Conflict):
        return Problem("conflict", f"entry {result.index} of the log has this id and another body")
    return {
        "digest": taken.envelope.digest,
        "index": result.index,
        "repeated": result.repeated,
        "receipt": _proof(result),
    }


def _count(governor: Governor, taken: Taken) -> None:
    claim = taken.claim
    if claim.kind != "verdict":
        return
    governor.metrics.verdicts.labels(claim.decision).inc()
    governor.metrics.verdict_age.observe(max(0.0, governor.services.records.now() - claim.time))
    if claim.decision == Outcome.DENY.word:
        first = claim.data["predicate"].get("findings", {}).get("first", [])
        governor.metrics.blocked(str(first[0].get("rule", "")) if first else "")


def _in_list(one: dict[str, Any] | Problem, raw: msgspec.Raw, name: str) -> dict[str, Any]:
    if isinstance(one, Problem):
        try:
            digest: str | None = read(bytes(raw)).digest
        except Problem:
            digest = None
        return {"digest": digest, "problem": one.data(name)}
    return one


def _proof(receipt: Receipt) -> str:
    return receipt.proof().format().decode()


def _json(data: Any, status: int) -> Response:
    return Response(msgspec.json.encode(data), status, media_type="application/json")


@router.get(
    "/v1/receipts/{digest}",
    summary="The receipt of an envelope",
    response_class=PlainTextResponse,
    responses={
        200: {"description": "A C2SP tlog-proof under the newest checkpoint.", "content": examples.PROOF},
        **responses("malformed", "not-authenticated", "forbidden", "not-found"),
    },
)
async def receipt(
    principal: Caller,
    governor: Served,
    digest: str = Path(
        pattern="^[0-9a-f]{64}$", description="SHA-256 of the envelope's line, in hex.", examples=["9f" * 32]
    ),
) -> Response:
    """Ask for the receipt of an envelope that was submitted, by its digest: whoever knows that holds the envelope."""
    need_anywhere(principal, "verdicts:write", "entries:read")
    return Response(await asyncio.to_thread(_receipt_of, governor, f"sha256:{digest}"), media_type=PROOF_TYPE)


def _receipt_of(governor: Governor, key: str) -> str:
    index = governor.log.store.find(key)
    if index is None:
        raise Problem("not-found", "no such envelope is on the log")
    try:
        return _proof(governor.receipt(index))
    except LookupError:
        raise Problem("unavailable", "it is on the log, and no checkpoint covers it yet") from None
