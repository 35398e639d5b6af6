"""A symlink that leads out of the repository, into ``.git``, or nowhere that can be determined."""

from __future__ import annotations

from collections.abc import Iterator

from safeai_git.core.context import Context
from safeai_git.core.display import display
from safeai_git.core.finding import Finding, Outcome
from safeai_git.core.paths import LONGEST_PATH
from safeai_git.core.policy import Policy
from safeai_git.core.proposal import Proposal
from safeai_git.core.rules.common import chosen

ID = "symlink-escape"

_LEADS = {"outside": "out of the repository", "git": "into git's own folder", "loop": "round in a circle"}


def findings(proposal: Proposal, policy: Policy, context: Context) -> Iterator[Finding]:  # noqa: ARG001
    """Deny, unless the policy chooses otherwise; into ``.git`` always."""
    for edit in proposal.edits:
        if edit.link is None or edit.link.fate == "inside":
            continue
        fixed = edit.link.fate == "git"
        yield Finding(
            rule=ID,
            outcome=Outcome.DENY if fixed else chosen(policy, ID, Outcome.DENY),
            path=edit.path,
            message=f"the symlink to '{display(edit.link.target[:LONGEST_PATH])}' leads {_LEADS[edit.link.fate]}",
            remedy="point it, by a relative path, at something inside the repository",
            lifted_by="nobody" if fixed else "the policy's 'outcomes'",
        )
