"""How far an agent is trusted at all: ``frozen`` lets nothing pass, ``alpha`` nothing without an approval."""

from __future__ import annotations

from collections.abc import Iterator

from safeai_git.core.context import Context
from safeai_git.core.display import safe_text
from safeai_git.core.finding import APPROVERS, MAINTAINERS, Finding, Outcome
from safeai_git.core.policy import Policy
from safeai_git.core.proposal import Proposal

ID = "autonomy-tier"


def findings(proposal: Proposal, policy: Policy, context: Context) -> Iterator[Finding]:  # noqa: ARG001
    """Deny under ``frozen``, ask for review under ``alpha``, deny an agent that the policy does not admit."""
    if not proposal.edits:
        return
    agent = proposal.attribution.agent
    who = safe_text(agent) if agent else "this author"
    if not policy.admits(agent):
        yield Finding(
            rule=ID,
            outcome=Outcome.DENY,
            path=None,
            message=f"the policy does not admit changes by {who}",
            remedy="have the work done by a person or by an agent that the policy admits",
            lifted_by=MAINTAINERS,
        )
        return
    tier = policy.tier(agent)
    if tier == "frozen":
        yield Finding(
            rule=ID,
            outcome=Outcome.DENY,
            path=None,
            message=f"the autonomy tier for {who} is 'frozen': no change of theirs is accepted",
            remedy="keep the change on a branch until the tier is raised",
            lifted_by=MAINTAINERS,
        )
    elif tier == "alpha":
        yield Finding(
            rule=ID,
            outcome=Outcome.REVIEW,
            path=None,
            message=f"the autonomy tier for {who} is 'alpha': each change needs an approval",
            remedy="ask an approver to look at exactly this tree",
            lifted_by=APPROVERS,
        )
