"""A tree that git itself would not have written: judged before anything else, since its paths cannot be trusted."""

from __future__ import annotations

from collections.abc import Iterator

from safeai_git.core.context import Context
from safeai_git.core.finding import NOBODY, Finding, Outcome
from safeai_git.core.policy import Policy
from safeai_git.core.proposal import Proposal

ID = "malformed-tree"


def findings(proposal: Proposal, policy: Policy, context: Context) -> Iterator[Finding]:  # noqa: ARG001
    """Deny each malformed entry."""
    for found in proposal.malformed_tree:
        yield Finding(
            rule=ID,
            outcome=Outcome.DENY,
            path=found.where or None,
            message=f"the proposed tree is malformed: {found.what}",
            remedy="write the tree with git itself: check the change out, 'git add' it and commit again",
            lifted_by=NOBODY,
        )
