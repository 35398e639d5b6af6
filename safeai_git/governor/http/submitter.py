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


AT_ONCE = 32
"""Entries that are handed over without waiting for more: while half a crowd is synced, the other half is checked."""


class Submitter:
    """Hands entries to the log and waits without a thread for each.

    What is submitted in one round of the event loop is handed over together, at its end: the log's thread would begin
    with the first alone, and sync and sign for it, while the others are still being checked.

    Args:
        log: The log.
    """

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._gathered: list[tuple[tuple[Draft, ...], asyncio.Future[Ticket]]] = []
        self._entries = 0
        self._waiting: dict[Ticket, asyncio.Future[Ticket]] = {}

    async def submit(self, drafts: Sequence[Draft]) -> tuple[Result, ...]:
        """Have entries logged together; returns when they are durable.

        Whoever is cancelled meanwhile leaves them to the log: under the same ids they can be asked for again.

        Raises: as `AuditLog.submit` and `Ticket.wait` do.
        """
        answered: asyncio.Future[Ticket] = self._loop.create_future()
        self._gathered.append((tuple(drafts), answered))
        self._entries += len(drafts)
        if self._entries >= AT_ONCE:
            self._hand_over()
        elif len(self._gathered) == 1:
            self._loop.call_soon(self._hand_over)
        return (await answered).wait(0)

    def _hand_over(self) -> None:
        gathered, self._gathered, self._entries = self._gathered, [], 0
        for drafts, answered in gathered:
            try:
                ticket = self._log.submit(drafts, self._wake)
            except Exception as refusal:  # noqa: BLE001 - each that was gathered must hear of its own, whatever it is
                if not answered.done():
                    answered.set_exception(refusal)
            else:
                # The log's thread can only answer through this loop, and so not before this is done.
                self._waiting[ticket] = answered

    def _wake(self, tickets: Sequence[Ticket]) -> None:
        self._loop.call_soon_threadsafe(self._answered, tuple(tickets))

    def _answered(self, tickets: tuple[Ticket, ...]) -> None:
        for ticket in tickets:
            answered = self._waiting.pop(ticket)
            if not answered.done():
                answered.set_result(ticket)


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
