"""What several rules share."""

from __future__ import annotations

from safeai_git.core.finding import Outcome
from safeai_git.core.policy import Policy


def undecided(policy: Policy) -> Outcome:
    """The outcome of what could not be established: it denies in safe mode, otherwise somebody has to look."""
    return Outcome.DENY if policy.safe_mode else Outcome.REVIEW


def chosen(policy: Policy, rule: str, default: Outcome) -> Outcome:
    """The outcome that the policy chose for a rule, or the rule's own."""
    word = policy.outcomes.get(rule)
    return default if word is None else Outcome.of(word)
