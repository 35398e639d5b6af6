"""An added path that a case-folding or normalising file system cannot keep apart from one in the same tree."""

from __future__ import annotations

from collections.abc import Iterator

from safeai_git.core.context import Context
from safeai_git.core.display import display
from safeai_git.core.finding import Finding, Outcome
from safeai_git.core.paths import LONGEST_PATH
from safeai_git.core.policy import Policy
from safeai_git.core.proposal import Proposal
from safeai_git.core.rules.common import chosen

ID = "path-collision"


def findings(proposal: Proposal, policy: Policy, context: Context) -> Iterator[Finding]:  # noqa: ARG001
    """Deny, unless the policy chooses otherwise."""
    for collision in proposal.collisions:
        yield Finding(
            rule=ID,
            outcome=chosen(policy, ID, Outcome.DENY),
            path=collision.path,
            message=f"the path cannot be told from '{display(collision.other[:LONGEST_PATH])}' on some file systems",
            remedy="give it a name that differs in more than case, accents' encoding or invisible characters",
            lifted_by="the policy's 'outcomes'",
        )
