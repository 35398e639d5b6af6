"""A path that the policy denies, compared on its folded form so that no spelling gets round it."""

from __future__ import annotations

from collections.abc import Iterator

from safeai_git.core.context import Context
from safeai_git.core.finding import MAINTAINERS, Finding, Outcome
from safeai_git.core.policy import Policy
from safeai_git.core.proposal import Proposal

ID = "denied-path"


def findings(proposal: Proposal, policy: Policy, context: Context) -> Iterator[Finding]:  # noqa: ARG001
    """Deny every edit of a denied path."""
    for edit in proposal.edits:
        pattern = policy.denied.first_match_folded(edit.path)
        if pattern is not None:
            yield Finding(
                rule=ID,
                outcome=Outcome.DENY,
                path=edit.path,
                message=f"the path is denied by the pattern '{pattern.source}'",
                remedy="take this edit out of the change",
                lifted_by=MAINTAINERS,
            )
