"""How the Governor writes down what people ask of it, and knows it before it answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from safeai_git.core.errors import WrongUse
from safeai_git.core.log.entry import Draft
from safeai_git.governor.audit_log import AuditLog, Receipt
from safeai_git.governor.follower import Follower
from safeai_git.governor.live import LiveState
from safeai_git.governor.stores.port import Conflict

ANSWER_SECONDS = 30.0
"""How long a change waits for the log."""

FRESH_SECONDS = 3.0
"""How old what is known of the log may be for what is signed from it."""


class Conflicting(WrongUse):
    """What is asked contradicts what stands on the log; asking again changes nothing."""


class NotAllowed(WrongUse):
    """Whoever asks may not do this, though others may."""


@dataclass(frozen=True, slots=True)
class Records:
    """The log, and what it adds up to.

    Attributes:
        log: The log.
        state: What follows from it.
        follower: Keeps `state` up to date.
        now: Seconds since 1970.
    """

    log: AuditLog
    state: LiveState
    follower: Follower
    now: Callable[[], float] = time.time

    @classmethod
    def of(cls, log: AuditLog, now: Callable[[], float] = time.time) -> Records:
        """Read a log that was opened, and go on following it.

        Raises:
            StorageError: It cannot be read.
            LogProofInvalid: It contradicts itself.
        """
        state = LiveState()
        position = 0, ""
        if (older := log.store.older()) is not None:
            state.take_older(log.store, older)
            position = older.size, older.prev
        follower = Follower(log, state, position=position, name="audit-state")
        follower.catch_up()
        follower.start()
        return cls(log, state, follower, now)

    def write(self, draft: Draft, conflict: str) -> Receipt:
        """Append an entry and take it in; durable, and known here, when this returns.

        Args:
            draft: The entry.
            conflict: What to say where the log holds another one in its place.

        Raises:
            Conflicting: It does.
            StorageError: The log cannot take it, or did not answer in time.
        """
        result = self.log.append(draft, ANSWER_SECONDS)
        if isinstance(result, Conflict):
            raise Conflicting(conflict, hint=f"entry {result.index} of the log says how it is")
        self.follower.catch_up()
        return result

    def close(self) -> None:
        """Stop following; before the log is closed."""
        self.follower.close()
