"""The gate: reads a change, finds the policy that it is held against, has it replayed, and judges.

Every entry point (`check`, the hooks, CI) comes through here. What comes back is a list of `Judgement`; turning it
into text or an exit code is the entry point's business, and so is signing it (`seal`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from safeai_git.agents import catalogue
from safeai_git.approvals import Approvals
from safeai_git.core.context import Context, KillSwitch
from safeai_git.core.errors import DeadlinePassed
from safeai_git.core.evaluate import Verdict, evaluate
from safeai_git.core.finding import Decision
from safeai_git.core.objects import Commit
from safeai_git.core.policy import PolicyStack
from safeai_git.core.proposal import Proposal
from safeai_git.core.verdict import Stamp
from safeai_git.git.history import recomputed_merge
from safeai_git.git.reader import Origin, ProposalReader
from safeai_git.git.repository import Repository
from safeai_git.git.store import read_commit
from safeai_git.recorded import RecordedEvidence
from safeai_git.replay import Replayer
from safeai_git.trust import Trust, TrustReader


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


@dataclass(frozen=True, slots=True)
class Judgement:
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


class Gate:
    """Judges changes of one repository.

    Args:
        repository: An open repository.
        trust: Reads the policy and the signers.
        origin: What is known of the change besides its objects.
        version: Of safeai-git, for the verdict.
        now: Seconds since 1970.
        replayer: Replays checks, or knows what an earlier job saw; without one, checks that the policy asks for count as not replayed.
        kill_switch: Its state as it is known here, or what tells it for the base's policy and an agent.
        evaluate_expression: The policy VM.
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
        kill_switch: KillSwitch | Callable[[PolicyStack, str], KillSwitch],
        replayer: Replayer | RecordedEvidence | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        self.repository = repository
        self.trust = trust
        self._origin = origin
        self._version = version
        self._now = now
        self._evaluate_expression = evaluate_expression
        self._replayer = replayer
        self._kill_switch = kill_switch
        self.reader = ProposalReader(
            repository, catalogue(), origin, check=deadline.check if deadline else lambda: None
        )
        self._approvals = Approvals(repository, now=now)

    def staged(self, message: str = "") -> Judgement:
        """Judge what ``git commit`` would record now, by the policy of HEAD."""
        proposal = self.reader.staged(message)
        return self._judge(proposal, self.trust.at(proposal.base_commit))

    def commit(self, name: str) -> Judgement:
        """Judge one commit by the policy of its first parent."""
        proposal = self.reader.commit(name)
        return self._judge(proposal, self.trust.at(proposal.base_commit))

    def range(self, base: str, head: str) -> Iterator[Judgement]:
        """Judge everything between two commits by the policy of `base`.

        The net change and the result of the merge are judged without the paths that only commits changed in which
        the policy has no say: a person's large change must not count against an agent's small one beside it.
        """
        trust = self.trust.at(base)
        touched: set[bytes] = set()
        others: set[bytes] = set()
        for read in self.reader.range(base, head):
            proposal = read
            whole = proposal.kind in ("net", "merge-result")
            if whole and others - touched and not proposal.malformed_tree:
                kept = tuple(
                    edit for edit in proposal.edits if edit.path in touched or edit.path not in others
                )
                proposal = replace(proposal, edits=kept)
            # What lands is replayed: the range's end and the merge result, not each step on the way.
            tip = whole or proposal.head_commit == head
            judged = self._judge(proposal, trust, replay_expected=tip)
            seen = touched if trust.policy.governs(proposal.attribution.author_class) else others
            seen.update(edit.path for edit in proposal.edits)
            yield judged

    def patch(self, patch: bytes, base: str, message: str = "") -> Judgement:
        """Judge a patch on `base` by the policy there."""
        return self._judge(self.reader.patch(patch, base, message), self.trust.at(base))

    def edited(self, path: bytes, before: bytes | None, after: bytes) -> Judgement:
        """Judge an edit of one file before it is made, by the policy of HEAD; nothing is replayed for it."""
        proposal = self.reader.edited(path, before, after)
        return self._judge(proposal, self.trust.at(proposal.base_commit), replay_expected=False)

    def _judge(self, proposal: Proposal, trust: Trust, *, replay_expected: bool = True) -> Judgement:
        if proposal.kind == "merge":
            commit = read_commit(self.repository.store, proposal.head_commit)
            proposal = replace(proposal, base_tree=starting_point(self.repository, commit)[0])
        known = self._kill_switch
        context = Context(
            kill_switch=known
            if isinstance(known, KillSwitch)
            else known(trust.policy, proposal.attribution.agent),
            evaluate_expression=self._evaluate_expression,
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
        approved = self._approvals.of(proposal, trust) if verdict.decision == "review" else ()
        stamp = Stamp(int(self._now()), self._version, trust.policy.repository)
        return Judgement(verdict, trust, stamp, approved)


def starting_point(repository: Repository, commit: Commit) -> tuple[str, bool]:
    """The tree that a commit's change starts from (empty for nothing), and whether it is a merge that adds nothing.

    A merge starts from the tree that git would have made of its parents. Bound to its first parent's instead, the
    verdict on a merge, which looks at no more than the difference, would serve for a commit that brings everything
    that was merged.
    """
    if len(commit.parents) > 1:
        start, clean = recomputed_merge(repository, commit.parents)
        return start, clean and start == commit.tree
    return (read_commit(repository.store, commit.parents[0]).tree if commit.parents else ""), False


def worst(judgements: Iterable[Judgement]) -> Decision:
    """The decision over several judgements: the strictest."""
    order: tuple[Decision, ...] = ("allow", "review", "deny")
    return max((judgement.decision for judgement in judgements), key=order.index, default="allow")
