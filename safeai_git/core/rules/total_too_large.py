"""A change that is, all in all, larger than anybody would read."""

from __future__ import annotations

from collections.abc import Iterator

from safeai_git.core.context import Context
from safeai_git.core.display import count
from safeai_git.core.finding import MAINTAINERS, Finding, Outcome
from safeai_git.core.policy import Policy
from safeai_git.core.proposal import Proposal

ID = "total-too-large"


def findings(proposal: Proposal, policy: Policy, context: Context) -> Iterator[Finding]:  # noqa: ARG001
    """Deny a sum of edits above ``max_total_size_bytes``."""
    total, limit = proposal.total_size, policy.max_total_size_bytes
    if total > limit:
        yield Finding(
            rule=ID,
            outcome=Outcome.DENY,
            path=None,
            message=f"{count(len(proposal.edits), 'edit')} count {total:,} bytes together; {limit:,} are allowed",
            remedy="split the change into smaller ones",
            lifted_by=MAINTAINERS,
        )
