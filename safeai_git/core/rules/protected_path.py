"""A path that people answer for: CI workflows, hooks, agents' instructions, owners, attributes, the policy itself."""

from __future__ import annotations

from collections.abc import Iterator

from safeai_git.core.context import Context
from safeai_git.core.finding import APPROVERS, Finding, Outcome
from safeai_git.core.policy import Policy
from safeai_git.core.proposal import Proposal
from safeai_git.core.rules.common import chosen
from safeai_git.core.values import replace

ID = "protected-path"


def findings(proposal: Proposal, policy: Policy, context: Context) -> Iterator[Finding]:  # noqa: ARG001
    """Ask for an approval; the tier ``stable`` needs none except for the governance files."""
    trusted = policy.tier(proposal.attribution.agent) == "stable"
    for edit in proposal.edits:
        pattern = policy.protected.first_match_folded(edit.path)
        if pattern is None or (trusted and policy.governance.first_match_folded(edit.path) is None):
            continue
        yield Finding(
            rule=ID,
            outcome=chosen(policy, ID, Outcome.REVIEW),
            path=edit.path,
            message=f"the path is protected by the pattern '{pattern.source}'",
            remedy="have an approver sign exactly this tree, or move the edit into a change of its own",
            lifted_by=APPROVERS,
        )


def of_anybody(proposal: Proposal, policy: Policy, context: Context) -> Iterator[Finding]:
    """The same for an author whom the policy does not govern: outside the governance files an approval will do.

    An approval is what shows that a person stands behind the change; a policy that denies the path to agents must not
    deny it to people for good.
    """
    for one in findings(proposal, policy, context):
        own = policy.governance.first_match_folded(one.path or b"")
        yield one if own else replace(one, outcome=min(one.outcome, Outcome.REVIEW))
    if policy.ai_until_shown_human and not proposal.complete:
        yield Finding(
            rule=ID,
            outcome=Outcome.REVIEW,
            path=None,
            message="too many paths change to see whether a protected one is among them",
            remedy="split the change, or have an approver sign exactly this tree",
            lifted_by=APPROVERS,
        )
