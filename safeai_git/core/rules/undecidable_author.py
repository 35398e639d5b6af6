"""Nothing readable says who wrote the change; on a protected path that cannot be left open."""

from __future__ import annotations

from collections.abc import Iterator

from safeai_git.core.context import Context
from safeai_git.core.finding import APPROVERS, NOBODY, Finding, Outcome
from safeai_git.core.policy import Policy
from safeai_git.core.proposal import Proposal
from safeai_git.core.rules.common import undecided

ID = "undecidable-author"


def findings(proposal: Proposal, policy: Policy, context: Context) -> Iterator[Finding]:  # noqa: ARG001
    """Deny (in safe mode) on protected paths, warn elsewhere."""
    if proposal.attribution.author_class != "unknown":
        return
    protected: list[bytes | None] = [
        edit.path for edit in proposal.edits if policy.protected.first_match_folded(edit.path)
    ]
    outcome = undecided(policy) if protected else Outcome.WARN
    for path in protected or [None]:
        yield Finding(
            rule=ID,
            outcome=outcome,
            path=path,
            message="who wrote this cannot be established: the author's name or address is missing or unreadable",
            remedy="set user.name and user.email, or name the agent with --agent",
            lifted_by=NOBODY if outcome is Outcome.DENY else APPROVERS,
        )
