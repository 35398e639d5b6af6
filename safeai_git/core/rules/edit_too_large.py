"""One edit that is larger than anybody would read."""

from __future__ import annotations

from collections.abc import Iterator

from safeai_git.core.context import Context
from safeai_git.core.finding import MAINTAINERS, Finding, Outcome
from safeai_git.core.policy import Policy
from safeai_git.core.proposal import Proposal
from safeai_git.core.rules.common import undecided

ID = "edit-too-large"


def findings(proposal: Proposal, policy: Policy, context: Context) -> Iterator[Finding]:  # noqa: ARG001
    """Deny edits above ``max_edit_size_bytes``; content that was not read is an open question."""
    limit = policy.max_edit_size_bytes
    for edit in proposal.edits:
        if edit.lfs is not None:
            continue  # judged by lfs-size
        if edit.size > limit:
            whole = " (too long to compare line by line, so counted whole)" if edit.counted_whole else ""
            yield Finding(
                rule=ID,
                outcome=Outcome.DENY,
                path=edit.path,
                message=f"the edit counts {edit.size:,} bytes{whole}; {limit:,} are allowed",
                remedy="split the change into smaller ones",
                lifted_by=MAINTAINERS,
            )
        elif edit.unread:
            yield Finding(
                rule=ID,
                outcome=undecided(policy),
                path=edit.path,
                message=f"the content is {edit.unread}",
                remedy="leave the file out of this change",
                lifted_by=MAINTAINERS,
            )
