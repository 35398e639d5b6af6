"""A Git LFS pointer stands for more than it shows; one that declares no believable size stands for anything."""

from __future__ import annotations

from collections.abc import Iterator

from safeai_git.core.context import Context
from safeai_git.core.finding import APPROVERS, MAINTAINERS, Finding, Outcome
from safeai_git.core.policy import Policy
from safeai_git.core.proposal import Proposal
from safeai_git.core.rules.common import chosen, undecided

ID = "lfs-size"


def findings(proposal: Proposal, policy: Policy, context: Context) -> Iterator[Finding]:  # noqa: ARG001
    """Judge the size that a pointer declares."""
    limit = policy.lfs_limit
    for edit in proposal.edits:
        if edit.lfs is None:
            continue
        if edit.lfs.size is None:
            outcome = undecided(policy)
            yield Finding(
                rule=ID,
                outcome=outcome,
                path=edit.path,
                message="the LFS pointer does not declare one size, so nobody knows what it stands for",
                remedy="write the pointer with git-lfs itself",
                lifted_by=APPROVERS if outcome is Outcome.REVIEW else MAINTAINERS,
            )
        elif edit.lfs.size > limit:
            yield Finding(
                rule=ID,
                outcome=chosen(policy, ID, Outcome.DENY),
                path=edit.path,
                message=f"the LFS pointer stands for {edit.lfs.size:,} bytes; {limit:,} are allowed",
                remedy="leave the large file out of this change",
                lifted_by=MAINTAINERS,
            )
