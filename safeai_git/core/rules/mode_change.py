"""What a path *is* changes: the executable bit of a file that was there, or file to symlink to submodule."""

from __future__ import annotations

from collections.abc import Iterator

from safeai_git.core.context import Context
from safeai_git.core.edit import MODE_EXECUTABLE
from safeai_git.core.finding import APPROVERS, Finding, Outcome
from safeai_git.core.policy import Policy
from safeai_git.core.proposal import Proposal
from safeai_git.core.rules.common import chosen

ID = "mode-change"


def findings(proposal: Proposal, policy: Policy, context: Context) -> Iterator[Finding]:  # noqa: ARG001
    """Ask for review of a mode that changes; a new executable file is worth a warning."""
    for edit in proposal.edits:
        if edit.status == "A" and edit.new_mode == MODE_EXECUTABLE:
            outcome, message = Outcome.WARN, "a new file is executable"
        elif edit.old_mode and edit.new_mode and edit.old_mode != edit.new_mode:
            outcome = chosen(policy, ID, Outcome.REVIEW)
            message = f"the mode changes from {edit.old_mode:06o} to {edit.new_mode:06o}"
        else:
            continue
        yield Finding(
            rule=ID,
            outcome=outcome,
            path=edit.path,
            message=message,
            remedy="restore the mode ('git update-index --chmod=...') unless the change is meant",
            lifted_by=APPROVERS,
        )
