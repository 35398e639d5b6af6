"""The one judge: facts and policy in, verdict out. The same on a laptop, in CI and in the Governor."""

from __future__ import annotations

from msgspec import Struct

from safeai_git.core.attribution import Attribution
from safeai_git.core.context import Context
from safeai_git.core.errors import PolicyError
from safeai_git.core.finding import Decision, Finding, decide
from safeai_git.core.policy import Policy, PolicyStack
from safeai_git.core.proposal import Proposal
from safeai_git.core.rules import MALFORMED, MESSAGE_RULES, RULES, protected_path
from safeai_git.core.values import replace


class Verdict(Struct, frozen=True):
    """What follows from a proposal under a policy.

    Attributes:
        proposal: The facts.
        policy: What they were held against.
        context: The facts of the moment.
        governed: Whether the policy has a say in this change at all; if not, there are no findings.
        findings: Everything that was objected to, in the order of the rules.
        decision: Follows from the findings, so the two cannot disagree.
    """

    proposal: Proposal
    policy: PolicyStack
    context: Context
    governed: bool
    findings: tuple[Finding, ...]

    @property
    def decision(self) -> Decision:
        """``allow``, ``review`` or ``deny``."""
        return decide(self.findings)


def evaluate(proposal: Proposal, policy: PolicyStack, context: Context) -> Verdict:
    """Judge a proposal.

    Each layer of the policy judges on its own and all findings count, so adding a layer can only tighten.

    Raises:
        PolicyError: There is no policy layer: an empty rule set is no consent.
    """
    if not policy.layers:
        raise PolicyError(
            "there is no policy to judge by", hint="this is a fault of safeai-git; please report it"
        )
    findings: list[Finding] = []
    governed = False
    for layer in policy.layers:
        scope = governed_part(counted(proposal, layer), layer)
        if scope is None:
            continue
        governed = True
        findings += [replace(finding, policy=layer.source) for finding in _judge(scope, layer, context)]
    told = replace(proposal, attribution=policy.counted(proposal.attribution))
    return Verdict(told, policy, context, governed, tuple(findings))


def counted(proposal: Proposal, policy: Policy) -> Proposal:
    """A change by whoever wrote it as a policy layer has it."""
    return replace(proposal, attribution=policy.counted(proposal.attribution))


def of_message(who: Attribution, policy: PolicyStack) -> tuple[Finding, ...]:
    """What the layers object to in what a commit says, whatever it changes.

    A verdict is about a change and serves a commit with another message too, so this is asked of each commit itself.
    """
    found: list[Finding] = []
    for layer in policy.layers:
        change = Proposal("commit", "", "", "", "", (), layer.counted(who))
        if layer.governs(change.attribution.author_class):
            found += [one for rule in MESSAGE_RULES for one in rule.findings(change, layer, Context())]
    return tuple(found)


def governed_part(proposal: Proposal, policy: Policy) -> Proposal | None:
    """The part of a change in which a policy layer has a say, or ``None``.

    All of it when the author's class is governed or the objects are malformed. Of anybody else's change the edits of
    governance files (``.safeai/``): whoever may change them unseen can change what everything else is held against.
    Of all protected files, and of a change too large to tell, where the policy takes everybody for an agent there.
    The built-in policy makes no such claim: where there is no policy yet, a person may write the first one.
    """
    malformed = proposal.malformed_tree or proposal.malformed_commit
    if malformed or policy.governs(proposal.attribution.author_class):
        return proposal
    if policy == Policy.builtin():
        return None
    watched = tuple(edit for edit in proposal.edits if policy.watched.first_match_folded(edit.path))
    unseen = policy.ai_until_shown_human and not proposal.complete
    return replace(proposal, edits=watched, collisions=()) if watched or unseen else None


def _judge(proposal: Proposal, policy: Policy, context: Context) -> list[Finding]:
    malformed = [found for rule in MALFORMED for found in rule.findings(proposal, policy, context)]
    if malformed:
        return malformed
    if not policy.governs(proposal.attribution.author_class):
        return list(protected_path.of_anybody(proposal, policy, context))
    return [found for rule in RULES for found in rule.findings(proposal, policy, context)]
