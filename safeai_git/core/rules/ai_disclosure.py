"""What the policy wants a commit by an agent to say of that agent: its name, that there was one, or nothing."""

from __future__ import annotations

from collections.abc import Iterator

from safeai_git.core.context import Context
from safeai_git.core.display import safe_text
from safeai_git.core.finding import NOBODY, Finding, Outcome
from safeai_git.core.policy import Policy
from safeai_git.core.proposal import Proposal
from safeai_git.core.rules.common import chosen

ID = "ai-disclosure"

NAMING = ("author", "committer", "trailer")
"""Signals that stay with the commit and are read by every tool: identities and git's own trailer block."""
TELLING = (*NAMING, "loose-trailer", "text")
"""Signals that stay with the commit at all; a branch, a variable or a claim does not."""


def findings(proposal: Proposal, policy: Policy, context: Context) -> Iterator[Finding]:  # noqa: ARG001
    """Deny a commit by an agent that does not say what the policy wants it to; a policy may choose the outcome."""
    who = proposal.attribution
    if policy.attribution is None or who.message is None or who.author_class not in ("ai", "mixed"):
        return
    told = [
        one.evidence for one in who.signals if one.kind in TELLING and one.author_class in ("ai", "mixed")
    ]
    if policy.attribution == "forbid":
        if not told:
            return
        message = f"the commit names an agent ({safe_text(told[0])[:120]}), and the policy wants none named"
        remedy = "take the agent out of the message, the author and the committer"
    elif policy.attribution == "require":
        if any(
            one.agent and one.kind in NAMING and one.author_class in ("ai", "mixed") for one in who.signals
        ):
            return
        message = "an agent took part and no trailer or identity names it"
        remedy = f"add a trailer to the last paragraph: 'Assisted-by: {safe_text(who.agent) or 'AGENT'}'"
    else:
        if told:
            return
        message = "an agent took part and nothing in the commit says so"
        remedy = f"say so in the message, best by a trailer: 'Assisted-by: {safe_text(who.agent) or 'AGENT'}'"
    yield Finding(ID, chosen(policy, ID, Outcome.DENY), None, message, remedy, NOBODY)
