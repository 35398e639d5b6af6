"""The stop button: while it is engaged, no governed change passes; when its state is not known, the fail mode decides."""

from __future__ import annotations

from collections.abc import Iterator

from safeai_git.core.context import Context
from safeai_git.core.finding import Finding, Outcome
from safeai_git.core.policy import Policy
from safeai_git.core.proposal import Proposal
from safeai_git.core.rules.common import undecided

ID = "kill-switch"


def findings(proposal: Proposal, policy: Policy, context: Context) -> Iterator[Finding]:  # noqa: ARG001
    """Deny while engaged; a stale lease is an open question."""
    switch = context.kill_switch
    if switch.state == "engaged":
        yield Finding(
            rule=ID,
            outcome=Outcome.DENY,
            path=None,
            message=f"the kill switch is engaged: {switch.reason or 'no reason was given'}",
            remedy="wait until it is released; nothing of the change is lost",
            lifted_by="whoever may release the kill switch",
        )
    elif switch.state == "stale":
        yield Finding(
            rule=ID,
            outcome=undecided(policy),
            path=None,
            message=f"the kill switch's state is not known: {switch.reason}",
            remedy="reach the Governor once ('safeai-git doctor' shows how long ago that was)",
            lifted_by="whoever runs the Governor",
        )
