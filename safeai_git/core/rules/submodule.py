"""A submodule pointer is added, moved or removed: code that no rule here has seen comes in or goes."""

from __future__ import annotations

from collections.abc import Iterator

from safeai_git.core.context import Context
from safeai_git.core.edit import MODE_GITLINK
from safeai_git.core.finding import APPROVERS, Finding, Outcome
from safeai_git.core.policy import Policy
from safeai_git.core.proposal import Proposal
from safeai_git.core.rules.common import chosen

ID = "submodule"


def findings(proposal: Proposal, policy: Policy, context: Context) -> Iterator[Finding]:  # noqa: ARG001
    """Ask for an approval, unless the policy chooses otherwise. The submodule itself is never looked into."""
    for edit in proposal.edits:
        if MODE_GITLINK not in (edit.old_mode, edit.new_mode):
            continue
        before = edit.old_id[:12] if edit.old_mode == MODE_GITLINK else "none"
        after = edit.new_id[:12] if edit.new_mode == MODE_GITLINK else "none"
        yield Finding(
            rule=ID,
            outcome=chosen(policy, ID, Outcome.REVIEW),
            path=edit.path,
            message=f"the submodule goes from {before} to {after}",
            remedy="have an approver look at what comes in with it",
            lifted_by=APPROVERS,
        )
