"""Who asks, and what they may. Made by the modules beside this one, asked by the HTTP layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SCOPES: Mapping[str, str] = {
    "verdicts:write": "submit verdicts and approvals",
    "decisions:write": "have the Governor judge a change",
    "incidents:write": "report commits that reached a protected ref without a verdict",
    "entries:read": "search the log's entries and read them",
    "log:read": "read the log's tiles",
    "policy:read": "read the organisation's policy and the kill switch's lease",
    "policy:write": "publish an organisation's policy",
    "keys:write": "register and revoke keys",
    "kill-switch:engage": "engage a kill switch",
    "kill-switch:release": "release a kill switch",
}
"""What can be asked for, by the name that tokens carry it under."""


class NotAuthenticated(Exception):
    """Nobody that we know asks.

    Attributes:
        reason: One word of a bounded set, for the metrics.
        detail: For the Governor's own log; the answer says no more than ``reason``.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Grant:
    """Scopes, and the repositories that they hold for; ``None`` for every repository."""

    scopes: frozenset[str]
    repositories: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who proved to be who they are.

    Attributes:
        subject: A name that is stable and goes onto the log.
        method: ``token``, ``ci``, ``certificate`` or ``loopback``.
        grants: What they may.
        claims: Further facts that the proof carried, for the log.
    """

    subject: str
    method: str
    grants: tuple[Grant, ...]
    claims: Mapping[str, str] = field(default_factory=dict)

    def may(self, scope: str, repository: str | None = None) -> bool:
        """Whether a scope is granted; for one repository if one is named, else for all of them."""
        return any(
            scope in grant.scopes and (grant.repositories is None or repository in grant.repositories)
            for grant in self.grants
        )


EVERYTHING = Grant(frozenset(SCOPES))
"""What whoever runs on the same machine may, where no authentication is configured."""
