"""The bridge between the event loop and the threads of the log and its witnesses."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from safeai_git.core.log.entry import Draft
from safeai_git.governor.audit_log import AuditLog, Receipt, Result, Ticket
from safeai_git.governor.problem import Problem
from safeai_git.governor.witnesses import Witnesses

WITNESS_SECONDS = 10.0
"""How long an answer waits for the quorum, where that is required."""


class Submitter:
    """Hands entries to the log and waits without a thread for each.

    Args:
        log: The log.
    """

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Ticket, asyncio.Future[None]] = {}

    async def submit(self, drafts: Sequence[Draft]) -> tuple[Result, ...]:
        """Have entries logged together; returns when they are durable.

        Whoever is cancelled meanwhile leaves them to the log: under the same ids they can be asked for again.

        Raises: as `AuditLog.submit` and `Ticket.wait` do.
        """
        ticket = self._log.submit(drafts, self._wake)
        # The log's thread can only answer through this loop, and so not before the next line has run.
        answered = self._waiting[ticket] = self._loop.create_future()
        try:
            await answered
        finally:
            self._waiting.pop(ticket, None)
        return ticket.wait(0)

    def _wake(self, tickets: Sequence[Ticket]) -> None:
        self._loop.call_soon_threadsafe(self._answered, tuple(tickets))

    def _answered(self, tickets: tuple[Ticket, ...]) -> None:
        for ticket in tickets:
            future = self._waiting.get(ticket)
            if future is not None and not future.done():
                future.set_result(None)


async def witnessed(witnesses: Witnesses | None, results: Sequence[Result]) -> tuple[Result, ...]:
    """The same results; where witnesses are required, once they have cosigned, and under what they cosigned.

    Raises:
        Problem: Too few did in time. The entries are durable, and asking again under the same ids brings the receipts.
    """
    receipts = [one for one in results if isinstance(one, Receipt)]
    if witnesses is None or not witnesses.required or not receipts:
        return tuple(results)
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        loop.call_soon_threadsafe(done.set)

    witnesses.when_covered(max(one.index for one in receipts) + 1, wake)
    try:
        await asyncio.wait_for(done.wait(), WITNESS_SECONDS)
    except TimeoutError:
        raise too_few_witnesses() from None
    finally:
        witnesses.forget(wake)
    return tuple(witnesses.receipt(one) if isinstance(one, Receipt) else one for one in results)


def too_few_witnesses() -> Problem:
    """Durable, and not to be shown yet."""
    return Problem(
        "unavailable",
        "the entries are durable, and too few witnesses have cosigned the log since",
        "send the same again for the receipts",
    )
