"""Nobody is named who asked for the work: a trailer names one, or an approver becomes one."""

from __future__ import annotations

from collections.abc import Iterator

from safeai_git.core.context import Context
from safeai_git.core.finding import APPROVERS, Finding, Outcome
from safeai_git.core.policy import Policy
from safeai_git.core.proposal import Proposal
from safeai_git.core.rules.common import chosen

ID = "accountable-human"


def findings(proposal: Proposal, policy: Policy, context: Context) -> Iterator[Finding]:  # noqa: ARG001
    """Ask for an approval where none of the policy's trailers names a person with an address."""
    who = proposal.attribution
    keys = policy.accountable_trailers
    if not keys or who.message is None or who.author_class not in ("ai", "mixed"):
        return
    if any(who.message.people(keys)):
        return
    yield Finding(
        ID,
        chosen(policy, ID, Outcome.REVIEW),
        None,
        "no person is named who asked for the work",
        f"add a trailer to the last paragraph: '{keys[0]}: NAME <ADDRESS>'",
        APPROVERS,
    )
