"""Who asks: the authenticator and the rate limit, as dependencies of the routes."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import Annotated

from fastapi import Depends, Request

from safeai_git.governor.auth import authenticator
from safeai_git.governor.auth.principal import NotAuthenticated, Principal
from safeai_git.governor.problem import Problem
from safeai_git.governor.service import Governor

MOST_SUBJECTS = 10_000
"""Callers whose rate is remembered; the one that asked longest ago is forgotten first."""


def governor_of(request: Request) -> Governor:
    """The Governor that serves this application."""
    governor: Governor = request.app.state.governor
    return governor


Served = Annotated[Governor, Depends(governor_of)]


class Rates:
    """How often each subject may ask: a bucket that fills evenly.

    Args:
        per_minute: Requests a minute, and at most as many at once; 0 for no limit.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, subject: str) -> bool:
        """Whether this request is within the limit."""
        if not self._per_minute:
            return True
        now = time.monotonic()
        left, since = self._left.pop(subject, (float(self._per_minute), now))
        left = min(float(self._per_minute), left + (now - since) * self._per_minute / 60)
        allowed = left >= 1
        self._left[subject] = (left - allowed, now)
        if len(self._left) > MOST_SUBJECTS:
            self._left.popitem(last=False)
        return allowed


async def caller(request: Request, governor: Served) -> Principal:
    """Whoever asks.

    Raises:
        Problem: Nobody that we know, or too often.
    """
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    asked = authenticator.Request(
        headers, request.client.host if request.client else "", request.scope.get("safeai.certificate")
    )
    try:
        if governor.authenticator.waits:
            principal = await asyncio.to_thread(governor.authenticator.authenticate, asked)
        else:
            principal = governor.authenticator.authenticate(asked)
    except NotAuthenticated as refusal:
        governor.metrics.refusals.labels(refusal.reason).inc()
        request.state.subject = f"refused: {refusal.reason}"
        raise Problem(
            "not-authenticated", f"the request was not authenticated: {refusal.reason}", _HINT
        ) from None
    request.state.subject = principal.subject
    rates: Rates = request.app.state.rates
    if not rates.take(principal.subject):
        raise Problem(
            "too-many-requests", "this subject asks too often", "wait a few seconds, and send batches"
        )
    return principal


def is_nobody(request: Request, governor: Governor) -> bool:
    """Whether a request brings nothing that says who asks, and may be answered all the same: the rate counts by address.

    Raises:
        Problem: Too often.
    """
    brought = "authorization" in request.headers or request.scope.get("safeai.certificate") is not None
    if brought or not governor.authenticator.configured:
        return False
    address = request.client.host if request.client else ""
    rates: Rates = request.app.state.rates
    if not rates.take(f"nobody at {address}"):
        raise Problem("too-many-requests", "this address asks too often", "wait a few seconds")
    request.state.subject = "nobody"
    return True


_HINT = "send 'Authorization: Bearer TOKEN', or a client certificate"

Caller = Annotated[Principal, Depends(caller)]


def need(principal: Principal, *scopes: str, repository: str | None = None) -> None:
    """Go on only with one of these scopes.

    Raises:
        Problem: None of them is granted; says which are needed.
    """
    if not any(principal.may(scope, repository) for scope in scopes):
        where = "" if repository is None else f" for the repository {repository[:120]!a}"
        raise Problem(
            "forbidden", f"{' or '.join(scopes)}{where} is needed", "ask for a token with this scope"
        )
