"""The kill switch: its events, the switches that they leave engaged, and the lease that tells a client about them.

An event is what goes onto the log; a lease is what the Governor hands out, signed, so that the state is known for a
while without asking. Formats: ``docs/formats/kill-switch.md``. Each is written in one way only; anything else is
refused. The clock is an argument throughout.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal

from msgspec import Struct

from safeai_git.core import canonical
from safeai_git.core.context import KillSwitch
from safeai_git.core.envelope import MAX_PAE
from safeai_git.core.errors import FormatError, WrongUse
from safeai_git.core.policy_statement import parse_time
from safeai_git.core.trust import format_time

EVENT_TYPE = "application/vnd.safeai.kill-switch-event+json"
LEASE_TYPE = "application/vnd.safeai.kill-switch-lease+json"
LEASE_NAMESPACE = "safeai-kill-switch"
"""What a key has to be listed for to sign leases."""

MOST_AGENTS = 24
"""Agents that a lease names; if more are stopped, it stops all of them."""

Kind = Literal["global", "repository", "agent"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@:-]{0,99}")
_TEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,200}")
_AHEAD_SECONDS = 120


class Scope(Struct, frozen=True, order=True):
    """What a switch stops: everything, one repository, or one agent wherever it works.

    Raises:
        WrongUse: The name does not fit the kind.
    """

    kind: Kind
    name: str = ""

    def __post_init__(self) -> None:
        if self.kind not in ("global", "repository", "agent"):
            raise WrongUse(f"a kill switch stops global, repository or agent, not {self.kind!a}")
        if (self.kind == "global") != (self.name == "") or (self.name and not _NAME.fullmatch(self.name)):
            raise WrongUse(
                f"a kill switch for {self.kind} cannot have the name {self.name[:100]!a}",
                hint="global has none; a repository or an agent has 1 to 100 ASCII letters, digits and ._/@:-",
            )

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".rstrip()


class SwitchEvent(Struct, frozen=True):
    """Somebody engages or releases a switch.

    Attributes:
        engage: True to engage, false to release.
        scope: What it stops.
        reason, by: 1 to 200 characters without controls.
        time: Unix time.
        expires: First second at which an engaged switch lets go by itself; ``None`` for never.

    Raises:
        WrongUse: One of these does not hold.
    """

    engage: bool
    scope: Scope
    reason: str
    by: str
    time: int
    expires: int | None = None

    def __post_init__(self) -> None:
        for name, text in (("reason", self.reason), ("by", self.by)):
            if not _TEXT.fullmatch(text):
                raise WrongUse(f"a kill switch's {name!r} has 1 to 200 characters and no control characters")
        if self.expires is not None and (not self.engage or self.expires <= self.time):
            raise WrongUse(
                "a kill switch expires after it was engaged", hint="leave 'expires' out to keep it engaged"
            )

    def format(self) -> bytes:
        """The event in canonical JSON."""
        return canonical.dumps(
            {
                "action": "engage" if self.engage else "release",
                "scope": {"kind": self.scope.kind, "name": self.scope.name},
                "reason": self.reason,
                "by": self.by,
                "time": format_time(self.time),
                "expires": None if self.expires is None else format_time(self.expires),
            }
        )

    @classmethod
    def parse(cls, payload: bytes) -> SwitchEvent:
        """Read an event, the inverse of `format`.

        Raises:
            FormatError: It is something else.
        """
        try:
            match canonical.loads(payload, limit=MAX_PAE, depth=3):
                case {
                    "action": "engage" | "release" as action,
                    "scope": {"kind": "global" | "repository" | "agent" as kind, "name": str(name)},
                    "reason": str(reason),
                    "by": str(by),
                    "time": str(time),
                    "expires": str() | None as expires,
                }:
                    until = None if expires is None else parse_time(expires)
                    event = cls(action == "engage", Scope(kind, name), reason, by, parse_time(time), until)
                case _:
                    raise FormatError("not an event of a kill switch")
        except WrongUse as error:
            raise FormatError(f"not an event of a kill switch: {error.message}") from None
        if event.format() != payload:
            raise FormatError("the event of a kill switch is not in canonical form")
        return event


class Switches:
    """Which switches are engaged: what the events so far add up to."""

    def __init__(self, events: Iterable[SwitchEvent] = ()) -> None:
        self._engaged: dict[Scope, SwitchEvent] = {}
        for event in events:
            self.apply(event)

    def apply(self, event: SwitchEvent) -> None:
        """Take one more event. Engaging anew never shortens what is engaged already."""
        if not event.engage:
            self._engaged.pop(event.scope, None)
            return
        held = self._engaged.get(event.scope)
        if held is None or (held.expires is not None and (event.expires or 2**62) >= held.expires):
            self._engaged[event.scope] = event

    def copy(self) -> Switches:
        """The same switches, to go on from independently."""
        made = Switches()
        made._engaged = dict(self._engaged)
        return made

    def engaged(self, now: int) -> list[SwitchEvent]:
        """The events that hold now, in the order of their scopes."""
        return [
            event
            for _, event in sorted(self._engaged.items())
            if event.expires is None or now < event.expires
        ]

    def find(self, scope: Scope, now: int) -> SwitchEvent | None:
        """The event that keeps a scope engaged now."""
        return next((event for event in self.engaged(now) if event.scope == scope), None)

    def lease(self, *, governor: str, repository: str, now: int, seconds: int) -> Lease:
        """What one repository's clients need to know, for some seconds; never longer than until a switch expires."""
        held = self.engaged(now)
        stops = next(
            (
                one
                for one in held
                if one.scope.kind == "global" or one.scope == Scope("repository", repository)
            ),
            None,
        )
        agents = tuple(one.scope.name for one in held if one.scope.kind == "agent")
        reason = f"{stops.reason} ({stops.by})" if stops else ""
        if len(agents) > MOST_AGENTS and not stops:
            reason = f"{len(agents)} agents are stopped, more than a lease can name"
        until = min([now + seconds, *(one.expires for one in held if one.expires is not None)])
        return Lease(governor, repository, now, until, reason[:400], agents[:MOST_AGENTS])


class Lease(Struct, frozen=True):
    """The state for one repository, known until it expires.

    Attributes:
        governor: The log's origin.
        repository: The name that its policy gives it.
        issued, expires: Unix time.
        stopped: Why nothing may pass; empty while something may.
        agents: Agents that are stopped.
    """

    governor: str
    repository: str
    issued: int
    expires: int
    stopped: str
    agents: tuple[str, ...]

    def format(self) -> bytes:
        """The lease in canonical JSON."""
        return canonical.dumps(
            {
                "governor": self.governor,
                "repository": self.repository,
                "issued": format_time(self.issued),
                "expires": format_time(self.expires),
                "stopped": self.stopped,
                "agents": list(self.agents),
            }
        )

    @classmethod
    def parse(cls, payload: bytes) -> Lease:
        """Read a lease, the inverse of `format`.

        Raises:
            FormatError: It is something else.
        """
        match canonical.loads(payload, limit=MAX_PAE, depth=3):
            case {
                "governor": str(governor),
                "repository": str(repository),
                "issued": str(issued),
                "expires": str(expires),
                "stopped": str(stopped),
                "agents": list(agents),
            }:
                lease = cls(
                    governor,
                    repository,
                    parse_time(issued),
                    parse_time(expires),
                    stopped,
                    tuple(_texts(agents)),
                )
            case _:
                raise FormatError("not a lease of a kill switch")
        if lease.format() != payload:
            raise FormatError("the lease of a kill switch is not in canonical form")
        return lease

    def state(self, agent: str, *, now: int, max_age: int) -> KillSwitch:
        """The kill switch as this lease knows it.

        Args:
            agent: Who wrote the change; empty where nobody knows.
            now: Unix time.
            max_age: Seconds after which the policy takes no lease, whatever it says itself.
        """
        if now < self.issued - _AHEAD_SECONDS:
            return KillSwitch("stale", f"the lease was issued in the future ({format_time(self.issued)})")
        if now >= min(self.expires, self.issued + max_age):
            return KillSwitch("stale", f"the lease of {format_time(self.issued)} is too old")
        if self.stopped:
            return KillSwitch("engaged", self.stopped)
        if self.agents and (agent in self.agents or not agent):
            who = agent or f"an agent that is not known; stopped are {', '.join(self.agents)}"
            return KillSwitch("engaged", f"it stops {who}")
        return KillSwitch("released")


def _texts(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        if not isinstance(value, str):
            raise FormatError("not a lease of a kill switch: an agent's name is text")
        yield value
