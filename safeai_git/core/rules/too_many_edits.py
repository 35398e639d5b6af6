"""More paths changed at once than anybody would look at."""

from __future__ import annotations

from collections.abc import Iterator

from safeai_git.core.context import Context
from safeai_git.core.finding import MAINTAINERS, Finding, Outcome
from safeai_git.core.policy import Policy
from safeai_git.core.proposal import Proposal

ID = "too-many-edits"


def findings(proposal: Proposal, policy: Policy, context: Context) -> Iterator[Finding]:  # noqa: ARG001
    """Deny more than ``max_edits`` edits, and a change that was too long to read to its end."""
    number = len(proposal.edits)
    if number > policy.max_edits or not proposal.complete:
        paths = f"{number:,} paths change" if proposal.complete else "more paths change than are read"
        yield Finding(
            rule=ID,
            outcome=Outcome.DENY,
            path=None,
            message=f"{paths} at once; {policy.max_edits:,} are allowed",
            remedy="split the change into smaller ones",
            lifted_by=MAINTAINERS,
        )
