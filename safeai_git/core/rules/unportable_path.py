"""A name that other systems cannot keep apart from another, cannot write, or read as something else.

One rule on every operating system: a path that is harmless here may address ``.git`` on a colleague's disk.
"""

from __future__ import annotations

from collections.abc import Iterator

from safeai_git.core.context import Context
from safeai_git.core.finding import APPROVERS, NOBODY, Finding, Outcome
from safeai_git.core.paths import portability_problems
from safeai_git.core.policy import Policy
from safeai_git.core.proposal import Proposal
from safeai_git.core.rules.common import chosen

ID = "unportable-path"


def findings(proposal: Proposal, policy: Policy, context: Context) -> Iterator[Finding]:  # noqa: ARG001
    """Deny an alias of ``.git`` whatever the policy says; other unportable names as it chooses (deny by default)."""
    for edit in proposal.edits:
        if not edit.new_id:
            continue  # taking such a name out of the tree mends it
        for problem in portability_problems(edit.path):
            fixed = problem.kind == "git-alias"
            outcome = Outcome.DENY if fixed else chosen(policy, ID, Outcome.DENY)
            yield Finding(
                rule=ID,
                outcome=outcome,
                path=edit.path,
                message=f"the name is not portable: {problem.what}",
                remedy="rename the file",
                lifted_by=NOBODY
                if fixed
                else APPROVERS
                if outcome is Outcome.REVIEW
                else "the policy's 'outcomes'",
            )
