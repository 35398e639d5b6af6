"""A path outside the allow list; a list that is not empty is exclusive, and matched on the exact bytes."""

from __future__ import annotations

from collections.abc import Iterator

from safeai_git.core.context import Context
from safeai_git.core.finding import MAINTAINERS, Finding, Outcome
from safeai_git.core.policy import Policy
from safeai_git.core.proposal import Proposal

ID = "path-not-allowed"


def findings(proposal: Proposal, policy: Policy, context: Context) -> Iterator[Finding]:  # noqa: ARG001
    """Deny every edit that no allowed pattern matches."""
    if not policy.allow_paths:
        return
    shown = ", ".join(pattern.source for pattern in policy.allow_paths[:8])
    more = ", ..." if len(policy.allow_paths) > 8 else ""
    for edit in proposal.edits:
        if policy.allowed.first_match(edit.path) is None:
            yield Finding(
                rule=ID,
                outcome=Outcome.DENY,
                path=edit.path,
                message=f"no allowed pattern matches the path (allowed: {shown}{more})",
                remedy="keep the change inside the allowed paths",
                lifted_by=MAINTAINERS,
            )
