"""A check that the policy asks for did not pass, or has not been replayed."""

from __future__ import annotations

from collections.abc import Iterator

from safeai_git.core.context import CheckEvidence, Context
from safeai_git.core.finding import APPROVERS, NOBODY, Finding, Outcome
from safeai_git.core.policy import Policy
from safeai_git.core.proposal import Proposal
from safeai_git.core.rules.common import undecided

ID = "replay-failed"


def findings(proposal: Proposal, policy: Policy, context: Context) -> Iterator[Finding]:
    """Deny a failed check; one without an answer is an open question; one that was not asked for needs review."""
    if not context.replay_expected:
        return
    for check in policy.checks_for(edit.path for edit in proposal.edits):
        evidence = context.evidence.get(check.name)
        if evidence is None:
            yield Finding(
                rule=ID,
                outcome=Outcome.REVIEW,
                path=None,
                message=f"the check '{check.name}' has not been replayed",
                remedy="run 'safeai-git check --replay', or let CI do it",
                lifted_by=APPROVERS,
            )
        elif evidence.result == "failed":
            yield Finding(
                rule=ID,
                outcome=Outcome.DENY,
                path=None,
                message=f"the check '{check.name}' failed: {evidence.detail}",
                remedy=f"mend what it complains about; 'safeai-git replay --staged --check {check.name}' shows it{_log(evidence)}",
                lifted_by=NOBODY,
            )
        elif evidence.result == "undecided":
            yield Finding(
                rule=ID,
                outcome=undecided(policy),
                path=None,
                message=f"the check '{check.name}' gave no answer: {evidence.detail}",
                remedy="'safeai-git doctor' shows what the sandbox needs",
                lifted_by=APPROVERS if not policy.safe_mode else "whoever mends the sandbox",
            )


def _log(evidence: CheckEvidence) -> str:
    """How to see what it printed, where it was replayed."""
    if not evidence.output_bytes:
        return ""
    return f", and what it printed is in 'safeai-git replay --log {evidence.output_sha256[:12]}'"
