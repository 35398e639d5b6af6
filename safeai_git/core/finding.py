"""What a rule says about a change, and how findings combine into a decision."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Literal

from msgspec import Struct

Decision = Literal["allow", "review", "deny"]


class Outcome(IntEnum):
    """How far a finding goes, ordered: combining findings is taking the largest."""

    WARN = 1
    REVIEW = 2
    DENY = 3

    @property
    def word(self) -> str:
        """The word for it in policies, verdicts and messages."""
        return self.name.lower()

    @staticmethod
    def of(word: str) -> Outcome:
        """The inverse of `word`."""
        return Outcome[word.upper()]


class Finding(Struct, frozen=True):
    """One rule's objection.

    Attributes:
        rule: The rule's id.
        outcome: How far the objection goes.
        path: The path that it is about; ``None`` when it is about the change as a whole.
        message: What is the matter, with the figures.
        remedy: What the author can do.
        lifted_by: Who can lift it, and how.
        policy: The policy layer that asked.
    """

    rule: str
    outcome: Outcome
    path: bytes | None
    message: str
    remedy: str
    lifted_by: str
    policy: str = ""


APPROVERS = "an approver, with 'safeai-git approve'"
MAINTAINERS = "a maintainer, by changing .safeai/policy.yaml on the base branch"
NOBODY = "nobody: the change itself has to be mended"


def decide(findings: Iterable[Finding]) -> Decision:
    """The decision that follows from the findings: a warning allows, the strictest of the others wins."""
    worst = max((finding.outcome for finding in findings), default=Outcome.WARN)
    if worst is Outcome.DENY:
        return "deny"
    return "review" if worst is Outcome.REVIEW else "allow"
