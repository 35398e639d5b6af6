"""The bridge between the event loop and the log's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from safeai_git.core.log.entry import Draft
from safeai_git.governor.audit_log import AuditLog, Result, Ticket


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
