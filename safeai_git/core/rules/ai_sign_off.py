"""A sign-off that no person gave: it certifies where the work comes from, which an agent cannot."""

from __future__ import annotations

from collections.abc import Iterator

from safeai_git.core.attribution import Attribution
from safeai_git.core.context import Context
from safeai_git.core.display import safe_text
from safeai_git.core.finding import NOBODY, Finding, Outcome
from safeai_git.core.policy import Policy
from safeai_git.core.proposal import Proposal
from safeai_git.core.rules.common import chosen

ID = "ai-sign-off"


def findings(proposal: Proposal, policy: Policy, context: Context) -> Iterator[Finding]:  # noqa: ARG001
    """Deny a sign-off by an agent, and one of a person's in a commit that an agent made by itself."""
    who = proposal.attribution
    if policy.ai_may_sign_off or who.message is None:
        return
    alone = _made_by_agent(who, by_author=who.message.committed_by_author)
    for name, is_program in who.message.sign_offs():
        if not (is_program or alone):
            continue
        what = "signs off as" if is_program else "made this commit itself and signs it off as"
        yield Finding(
            ID,
            chosen(policy, ID, Outcome.DENY),
            None,
            f"an agent {what} {safe_text(name)[:120]}",
            "leave 'Signed-off-by' out; a person who answers for the change adds it, with 'git commit --amend -s'",
            NOBODY,
        )
        return


def _made_by_agent(who: Attribution, *, by_author: bool) -> bool:
    """Whether no person's hand was in making the commit: an agent runs here, or both identities are the agent's."""
    return any(
        one.kind in ("claim", "environment", "committer")
        or (one.kind == "author" and one.author_class == "ai" and by_author)
        for one in who.signals
    )
