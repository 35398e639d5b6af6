"""The judge of a change that is about to be made: a staged one, or an agent's edit. `gate` adds commits and ranges.

Apart from `gate`, since this is what hooks wait for: it loads nothing that walks history, replays or signs.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from safeai_git.agents import catalogue
from safeai_git.core.context import CheckEvidence, Context, KillSwitch, nothing_ruled_out
from safeai_git.core.errors import DeadlinePassed
from safeai_git.core.evaluate import Verdict, evaluate
from safeai_git.core.finding import Decision
from safeai_git.core.policy import Check, PolicyStack
from safeai_git.core.proposal import Proposal
from safeai_git.core.stamp import Stamp
from safeai_git.core.values import replace
from safeai_git.git.facts import FactReader, Origin
from safeai_git.git.repository import Repository
from safeai_git.git.working import FileEdit
from safeai_git.trust import Trust, TrustReader


class Replays(Protocol):
    """Whoever knows what the checks of a policy say of a proposed tree: `replay.Replayer`, or what an earlier job saw."""

    def evidence(
        self, proposal: Proposal, checks: Iterable[Check], policy: PolicyStack | None = None
    ) -> Mapping[str, CheckEvidence]:
        """The evidence of each check, by its name."""


class Deadline:
    """A moment after which there is no more answer.

    Args:
        seconds: From now on; 0 for none.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds if seconds else float("inf")

    def check(self) -> None:
        """Raise `DeadlinePassed` when the time is used up."""
        if time.monotonic() > self._end:
            raise DeadlinePassed(
                f"no decision within {self._seconds:g} seconds",
                hint="split the change, or raise 'deadline_seconds' in the policy",
            )


class Judgement(Struct, frozen=True):
    """A verdict with what decides whether it lets the change pass.

    Attributes:
        verdict: The verdict.
        trust: What it was held against.
        stamp: When and by which gate.
        approved_by: Principals whose approvals count for exactly this change.
    """

    verdict: Verdict
    trust: Trust
    stamp: Stamp
    approved_by: tuple[str, ...] = ()

    @property
    def decision(self) -> Decision:
        """The verdict's decision; a review with enough approvals allows."""
        decision = self.verdict.decision
        if decision == "review" and len(self.approved_by) >= self.trust.policy.threshold:
            return "allow"
        return decision


class Judge:
    """Judges changes of one repository before they are made.

    Args:
        repository: An open repository.
        trust: Reads the policy and the signers.
        origin: What is known of the change besides its objects.
        version: Of safeai-git, for the verdict.
        now: Seconds since 1970.
        replayer: Replays checks, or knows what an earlier job saw; without one, checks that the policy asks for count as not replayed.
        kill_switch: Its state as it is known here, or what tells it for the base's policy and an agent.
        evaluate_expression: The policy VM.
        rules_out: Its quick look, see `Context`.
        deadline: When to give up; replays have limits of their own and do not count.
    """

    def __init__(
        self,
        repository: Repository,
        trust: TrustReader,
        origin: Origin,
        *,
        version: str,
        now: Callable[[], float],
        evaluate_expression: Callable[[str, Mapping[str, object]], bool],
        rules_out: Callable[[str, Mapping[str, object]], bool] = nothing_ruled_out,
        kill_switch: KillSwitch | Callable[[PolicyStack, str], KillSwitch],
        replayer: Replays | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        self.repository = repository
        self.trust = trust
        self._origin = origin
        self._version = version
        self._now = now
        self._evaluate_expression = evaluate_expression
        self._rules_out = rules_out
        self._replayer = replayer
        self._kill_switch = kill_switch
        self._check = deadline.check if deadline else lambda: None

    def staged(self, message: str = "") -> Judgement:
        """Judge what ``git commit`` would record now, by the policy of HEAD."""
        proposal = self._facts().staged(message)
        return self._judge(proposal, self.trust.at(proposal.base_commit))

    def edited(self, edits: Sequence[FileEdit]) -> Judgement:
        """Judge edits of files before they are made, by the policy of HEAD; nothing is replayed for them."""
        proposal = self._facts().edited(edits)
        return self._judge(proposal, self.trust.at(proposal.base_commit), replay_expected=False)

    def judge(self, proposal: Proposal) -> Judgement:
        """Judge a change that was read elsewhere, by the policy of its base; nothing is replayed for it."""
        return self._judge(proposal, self.trust.at(proposal.base_commit), replay_expected=False)

    def _facts(self) -> FactReader:
        return FactReader(self.repository, catalogue(), self._origin, check=self._check)

    def _judge(self, proposal: Proposal, trust: Trust, *, replay_expected: bool = True) -> Judgement:
        known = self._kill_switch
        context = Context(
            kill_switch=known
            if isinstance(known, KillSwitch)
            else known(trust.policy, trust.policy.counted(proposal.attribution).agent),
            evaluate_expression=self._evaluate_expression,
            rules_out=self._rules_out,
            replay_expected=False,
            branch=self._origin.branch,
        )
        verdict = evaluate(proposal, trust.policy, context)
        if replay_expected and verdict.governed and verdict.decision != "deny":
            # The checks are the author's own code: they run only for a change that might pass.
            context = replace(context, replay_expected=True)
            if self._replayer is not None:
                wanted = trust.policy.checks_for(edit.path for edit in proposal.edits)
                context = replace(context, evidence=self._replayer.evidence(proposal, wanted, trust.policy))
            verdict = evaluate(proposal, trust.policy, context)
        approved = self._approved(proposal, trust) if verdict.decision == "review" else ()
        stamp = Stamp(int(self._now()), self._version, trust.policy.repository)
        return Judgement(verdict, trust, stamp, approved)

    def _approved(self, proposal: Proposal, trust: Trust) -> tuple[str, ...]:
        # Loaded here: notes, envelopes and cryptography are of use for a review alone.
        approvals = importlib.import_module("safeai_git.approvals").Approvals(self.repository, now=self._now)
        counted: tuple[str, ...] = approvals.of(proposal, trust)
        return counted
