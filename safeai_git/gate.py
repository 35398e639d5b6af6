"""The gate: reads a change, finds the policy that it is held against, has it replayed, and judges.

Every entry point (`check`, the hooks, CI) comes through here. What comes back is a list of `Judgement`; turning it
into text or an exit code is the entry point's business, and so is signing it (`seal`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

from safeai_git.agents import catalogue
from safeai_git.core.evaluate import counted, governed_part
from safeai_git.core.finding import Decision
from safeai_git.core.objects import Commit
from safeai_git.core.proposal import Proposal
from safeai_git.core.values import replace
from safeai_git.git.history import recomputed_merge
from safeai_git.git.reader import ProposalReader
from safeai_git.git.repository import Repository
from safeai_git.git.store import read_commit
from safeai_git.judging import Deadline, Judge, Judgement
from safeai_git.trust import Trust

__all__ = ["Deadline", "Gate", "Judgement", "starting_point", "worst"]


class Gate(Judge):
    """Judges every change of one repository; its arguments are those of `Judge`."""

    @cached_property
    def reader(self) -> ProposalReader:
        """Reads the changes."""
        return ProposalReader(self.repository, catalogue(), self._origin, check=self._check)

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
            governed = {
                edit.path
                for layer in trust.policy.layers
                if (scope := governed_part(counted(proposal, layer), layer)) is not None
                for edit in scope.edits
            }
            touched |= governed
            others.update(edit.path for edit in proposal.edits if edit.path not in governed)
            yield judged

    def patch(self, patch: bytes, base: str, message: str = "") -> Judgement:
        """Judge a patch on `base` by the policy there."""
        return self._judge(self.reader.patch(patch, base, message), self.trust.at(base))

    def _facts(self) -> ProposalReader:
        return self.reader

    def _judge(self, proposal: Proposal, trust: Trust, *, replay_expected: bool = True) -> Judgement:
        if proposal.kind == "merge":
            commit = read_commit(self.repository.store, proposal.head_commit)
            proposal = replace(proposal, base_tree=starting_point(self.repository, commit)[0])
        return super()._judge(proposal, trust, replay_expected=replay_expected)


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
