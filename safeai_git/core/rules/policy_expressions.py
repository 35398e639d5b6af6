"""The policy's own rules: expressions (CEL) over the facts, evaluated by the policy VM."""

from __future__ import annotations

from collections.abc import Iterator

from safeai_git.core.context import Context
from safeai_git.core.errors import CouldNotDecide
from safeai_git.core.facts import change_facts, edit_facts
from safeai_git.core.finding import APPROVERS, MAINTAINERS, Finding, Outcome
from safeai_git.core.policy import Policy, PolicyRule
from safeai_git.core.proposal import Proposal
from safeai_git.core.rules.common import undecided

ID = "policy-expressions"


def findings(proposal: Proposal, policy: Policy, context: Context) -> Iterator[Finding]:
    """What each rule of the policy says; one that cannot be evaluated is an open question, never a 'no'."""
    if not policy.rules or not proposal.edits:
        return
    edits = [edit_facts(edit) for edit in proposal.edits]
    facts: dict[str, object] = {"change": change_facts(proposal, context.branch), "edits": edits}
    for rule in policy.rules:
        if rule.each == "change":
            yield from _ask(rule, facts, None, policy, context)
            continue
        if context.rules_out(rule.when, facts):
            continue
        for edit, described in zip(proposal.edits, edits, strict=True):
            yield from _ask(rule, {**facts, "edit": described}, edit.path, policy, context)


def _ask(
    rule: PolicyRule, facts: dict[str, object], path: bytes | None, policy: Policy, context: Context
) -> Iterator[Finding]:
    try:
        if not context.evaluate_expression(rule.when, facts):
            return
        outcome, message = Outcome.of(rule.outcome), rule.message
    except CouldNotDecide as error:
        outcome, message = undecided(policy), f"the expression could not be evaluated: {error.message}"
    yield Finding(
        rule=f"{ID}/{rule.id}",
        outcome=outcome,
        path=path,
        message=message,
        remedy="change what the rule objects to",
        lifted_by=APPROVERS if outcome is Outcome.REVIEW else MAINTAINERS,
    )
