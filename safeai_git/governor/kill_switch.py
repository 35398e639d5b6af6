"""The kill switch of a Governor: engaged and released by entries of the log, told to clients by signed leases.

Engaging works at once, before the log has it, and goes on working here if the log cannot take it; releasing works only
once it is durable. A lease is signed only from what was known of the log seconds ago.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass

from safeai_git.core.context import KillSwitch
from safeai_git.core.errors import WrongUse
from safeai_git.core.kill_switch import LEASE_TYPE, Scope, Switches, SwitchEvent
from safeai_git.core.log.entry import Draft
from safeai_git.core.values import replace
from safeai_git.governor.audit_log import Receipt
from safeai_git.governor.key_registry import Document
from safeai_git.governor.records import FRESH_SECONDS, NotAllowed, Records
from safeai_git.keys.port import Signer
from safeai_git.keys.seal import seal

BY_SETTING = "SAFEAI_ENABLE"
"""Who engaged the switch that ``SAFEAI_ENABLE=off`` starts with."""

UNTOLD = "a kill switch is engaged; the Governor says why to whoever has a token"
"""The reason in a lease for anybody."""

_MOST_LEASES = 1_000
_KEPT_SECONDS = 5


@dataclass(frozen=True, slots=True)
class _Made:
    """A lease that was signed."""

    version: tuple[int, int]
    until: int
    document: Document


class KillSwitchService:
    """Engages, releases, and hands out leases.

    Args:
        records: The log.
        governor: Its origin.
        signer: Signs leases.
        lease_seconds: How long a lease is good.
        second_person: Whoever engaged a switch cannot release it.
    """

    def __init__(
        self, records: Records, governor: str, signer: Signer, *, lease_seconds: int, second_person: bool
    ) -> None:
        self._records = records
        self._governor = governor
        self._signer = signer
        self._lease_seconds = lease_seconds
        self._second_person = second_person
        self._lock = threading.Lock()
        self._pending: list[SwitchEvent] = []
        self._changes = 0
        self._leases: OrderedDict[tuple[str, bool], _Made] = OrderedDict()

    def start_engaged(self) -> None:
        """What ``SAFEAI_ENABLE=off`` asks for: the global switch, until somebody releases it."""
        if self.switches().find(Scope("global"), self._now()) is None:
            self.engage(Scope("global"), reason="SAFEAI_ENABLE=off at the start", by=BY_SETTING)

    def switches(self) -> Switches:
        """The switches as they are known here, those included that the log does not hold yet."""
        state = self._records.state
        switches = state.switches()
        with self._lock:
            # A release that is on the log lifts what never got there as well, by whichever replica it came.
            self._pending = [one for one in self._pending if state.released(one.scope) < one.time]
            for event in self._pending:
                switches.apply(event)
        return switches

    def engaged(self) -> list[SwitchEvent]:
        """What holds now."""
        return self.switches().engaged(self._now())

    @property
    def active(self) -> bool:
        """Whether any switch is engaged, for the metric."""
        return bool(self.engaged())

    def engage(self, scope: Scope, *, reason: str, by: str, expires: int | None = None) -> Receipt:
        """Engage a switch.

        Raises:
            WrongUse: The reason, the name or the expiry cannot be.
            StorageError: The log cannot take it. Here it is engaged nevertheless, until a restart, or until it is
                released on the log.
        """
        event = SwitchEvent(True, scope, reason, by, self._now(), expires)
        self._remember(event)
        receipt = self._write(event)
        with self._lock:
            self._pending = [one for one in self._pending if one is not event]
            self._changes += 1
        return receipt

    def release(self, scope: Scope, *, reason: str, by: str) -> Receipt:
        """Release a switch.

        Raises:
            WrongUse: It is not engaged, or the reason cannot be.
            NotAllowed: Whoever engaged it asks, and a second person is needed.
            StorageError: The log cannot take it; it stays engaged.
        """
        self._records.follower.catch_up()
        held = self.switches().find(scope, self._now())
        if held is None:
            raise WrongUse(
                f"no kill switch is engaged for {scope}", hint="GET /v1/kill-switch says which are"
            )
        if self._second_person and held.by == by:
            raise NotAllowed(
                f"{by} engaged the kill switch for {scope}, and somebody else has to release it",
                hint="SAFEAI_RELEASE_NEEDS_SECOND_PERSON is on",
            )
        receipt = self._write(SwitchEvent(False, scope, reason, by, self._now()))
        with self._lock:
            self._pending = [one for one in self._pending if one.scope != scope]
            self._changes += 1
        return receipt

    def state(self, repository: str, agent: str) -> KillSwitch:
        """What a change is judged by here and now.

        Raises:
            StorageError: The log cannot be read.
            LogProofInvalid: It contradicts itself.
        """
        self._records.follower.need(FRESH_SECONDS)
        now = self._now()
        lease = self.switches().lease(
            governor=self._governor, repository=repository, now=now, seconds=self._lease_seconds
        )
        return lease.state(agent, now=now, max_age=self._lease_seconds)

    def lease(self, repository: str, *, public: bool = False) -> Document:
        """The signed lease for one repository's clients: an envelope's line.

        Args:
            repository: As its policy names it.
            public: For anybody: without the reason, which may name people and faults.

        Raises:
            WrongUse: No repository is called so.
            StorageError: The log cannot be read: what is not known is not signed.
            LogProofInvalid: It contradicts itself.
            CouldNotDecide: The Governor's key cannot be used.
        """
        Scope("repository", repository)
        self._records.follower.need(FRESH_SECONDS)
        now = self._now()
        with self._lock:
            version = (self._records.state.version, self._changes)
            made = self._leases.get((repository, public))
            if made is not None and made.version == version and now < made.until:
                return made.document
        lease = self.switches().lease(
            governor=self._governor, repository=repository, now=now, seconds=self._lease_seconds
        )
        if public and lease.stopped:
            lease = replace(lease, stopped=UNTOLD)
        envelope = seal(lease.format(), [self._signer], payload_type=LEASE_TYPE)
        document = Document.of(envelope.format())
        with self._lock:
            self._leases[repository, public] = _Made(
                version, min(now + _KEPT_SECONDS, lease.expires), document
            )
            while len(self._leases) > _MOST_LEASES:
                self._leases.popitem(last=False)
        return document

    def _now(self) -> int:
        return int(self._records.now())

    def _remember(self, event: SwitchEvent) -> None:
        with self._lock:
            self._pending.append(event)
            self._changes += 1

    def _write(self, event: SwitchEvent) -> Receipt:
        # The time has seconds only, and two people may well say the same within one.
        key = f"killswitch:{event.time}:{secrets.token_hex(8)}"
        return self._records.write(
            Draft.of_data("killswitch", key, json.loads(event.format())), "the log holds this event already"
        )
