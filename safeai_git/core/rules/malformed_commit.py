"""A commit object that git itself would not have written: different readers would see different commits."""

from __future__ import annotations

from collections.abc import Iterator

from safeai_git.core.context import Context
from safeai_git.core.finding import NOBODY, Finding, Outcome
from safeai_git.core.policy import Policy
from safeai_git.core.proposal import Proposal

ID = "malformed-commit"


def findings(proposal: Proposal, policy: Policy, context: Context) -> Iterator[Finding]:  # noqa: ARG001
    """Deny each oddity of the commit object."""
    for found in proposal.malformed_commit:
        yield Finding(
            rule=ID,
            outcome=Outcome.DENY,
            path=None,
            message=f"commit {proposal.head_commit[:12]} is malformed: {found.what}",
            remedy="make the commit again with 'git commit'",
            lifted_by=NOBODY,
        )
