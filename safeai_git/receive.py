"""A push, judged where it arrives: what git's pre-receive hook asks (githooks(5)).

Every update of a ref is judged, and every commit that no ref of the server reaches yet, by the trust root of the ref's
old tip; then the net change of each update (B-50). Approvals, and verdicts that saw checks pass, count from the notes
of the same push too. Everything is read from the push's quarantine, nothing is written and nothing is run.

Refuses to take the pusher's word: the old tip must be where the ref really stands, commits that only notes reach are
new, and an old tip without a policy is judged by that of the server's HEAD.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from safeai_git.agents import catalogue
from safeai_git.approvals import counted
from safeai_git.core.attribution import Attribution
from safeai_git.core.context import CheckEvidence, Context, KillSwitch, nothing_ruled_out
from safeai_git.core.display import display
from safeai_git.core.errors import (
    CouldNotDecide,
    DeadlinePassed,
    FormatError,
    HistoryTooShallow,
    ObjectMissing,
    RepositoryError,
)
from safeai_git.core.evaluate import evaluate
from safeai_git.core.finding import Decision, Finding, Outcome, decide
from safeai_git.core.proposal import Proposal
from safeai_git.core.stamp import Stamp
from safeai_git.core.values import replace
from safeai_git.gate import Deadline, Judgement, starting_point, worst
from safeai_git.git.facts import Origin
from safeai_git.git.history import merge_bases, new_commits
from safeai_git.git.notes_update import NotesAt
from safeai_git.git.reader import ProposalReader, strongest
from safeai_git.git.repository import NOTES_REF, Repository
from safeai_git.git.store import read_commit
from safeai_git.ref_updates import Ref, Update, notes_findings, read_refs, rewrite, unjudgeable
from safeai_git.trust import Trust, TrustReader
from safeai_git.weighing import Court, passed_checks

_LONGEST_TAG_CHAIN = 16
_TAGGED = re.compile(rb"object ([0-9a-f]+)\n")


@dataclass(slots=True)
class Answer:
    """What was found about one update of a ref.

    Attributes:
        update: The update.
        judged: Verdicts on its commits and on its net change.
        findings: What speaks against the move of the ref itself.
        error: Why there is no full answer, if there is none; what was found before it still stands.
    """

    update: Update
    judged: list[Judgement] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    error: CouldNotDecide | None = None

    @property
    def decision(self) -> Decision:
        """The strictest of all that was found; says nothing of what could not be decided."""
        order: tuple[Decision, ...] = ("allow", "review", "deny")
        return max(decide(self.findings), worst(self.judged), key=order.index)


class Receiver:
    """Judges the updates of one push.

    Args:
        repository: The server's repository, opened with the environment that git gives its hook.
        trust: Reads policies and signers.
        version: Of safeai-git, for the verdicts.
        now: Seconds since 1970.
        evaluate_expression: The policy VM.
        rules_out: Its quick look, see `Context`.
        kill_switch: Its state as the server knows it.
        deadline: When to give up.
        on_rewrite: What a rewrite of history comes to; ``None`` for review on tags and on the branch that HEAD
            names, and a warning elsewhere.
    """

    def __init__(
        self,
        repository: Repository,
        trust: TrustReader,
        *,
        version: str,
        now: Callable[[], float],
        evaluate_expression: Callable[[str, Mapping[str, object]], bool],
        rules_out: Callable[[str, Mapping[str, object]], bool] = nothing_ruled_out,
        kill_switch: KillSwitch,
        deadline: Deadline,
        on_rewrite: Outcome | None = None,
    ) -> None:
        if repository.object_format != "sha1":
            raise RepositoryError(
                f"pushes to a repository of format {repository.object_format} cannot be judged yet",
                hint="the server's repository has to be of format sha1",
            )
        self._repository = repository
        self._trust = trust
        self._version = version
        self._now = now
        self._evaluate_expression = evaluate_expression
        self._rules_out = rules_out
        self._kill_switch = kill_switch
        self._deadline = deadline
        self._on_rewrite = on_rewrite
        self._head = repository.head()
        self._refs = read_refs(repository)
        self._known = [ref.commit for name, ref in self._refs.items() if ref.commit and name != _NOTES]
        self._notes = NotesAt(repository, ())

    def answers(self, updates: list[Update]) -> Iterator[Answer]:
        """Judge a push. When the time is used up, the answer at hand says so and is the last.

        Args:
            updates: All of the push.
        """
        tips = [self._refs[_NOTES].commit] if _NOTES in self._refs else []
        tips += [one.new for one in updates if one.ref == _NOTES and one.new]
        self._notes = NotesAt(self._repository, tuple(filter(None, tips)), self._deadline.check)
        for update in updates:
            answer = Answer(update)
            try:
                self._answer(answer)
            except CouldNotDecide as error:
                answer.error = error
            yield answer
            if isinstance(answer.error, DeadlinePassed):
                return

    def _answer(self, answer: Answer) -> None:
        update = answer.update
        stands = self._refs.get(update.ref, Ref())
        if update.old != stands.id:
            raise RepositoryError(
                f"{display(update.ref)} is not where this push says it is", hint="fetch, then push again"
            )
        if update.ref == _NOTES:
            answer.findings += notes_findings(self._repository, update, self._deadline.check)
            return
        new = self._peeled(update.new)
        target = stands.alias or update.ref
        answer.findings += rewrite(self._repository, update, target, stands.commit, new, self._on_rewrite)
        if not update.new:
            return
        trust = self._trust_at(stands.commit)
        if not new:
            answer.findings.append(unjudgeable(update, trust.policy.safe_mode))
            return
        branch = target.removeprefix(b"refs/heads/").decode("utf-8", "replace")
        origin = Origin(branch=branch if target.startswith(b"refs/heads/") else "")
        for proposal, tip in self._proposals(stands.commit or self._head, new, origin):
            answer.judged.append(self._judge(proposal, trust, origin, tip=tip))

    def _trust_at(self, old: str) -> Trust:
        """The trust root of a ref's old tip; HEAD's for a new ref, and where the old tip brings no policy."""
        if old:
            trust = self._trust.at(old)
            if not trust.builtin:
                return trust
        if not self._head and self._known:
            raise RepositoryError(
                "the server's HEAD names no branch that is there, so nothing says which policy judges",
                hint="on the server: git symbolic-ref HEAD refs/heads/main",
            )
        return self._trust.at(self._head)

    def _peeled(self, name: str) -> str:
        """The commit that an object is or, being a tag, leads to; empty when it is neither."""
        for _ in range(_LONGEST_TAG_CHAIN):
            if not name:
                return ""
            kind, data = self._repository.store.read(name)
            if kind == "commit":
                return name
            found = _TAGGED.match(data) if kind == "tag" else None
            name = found[1].decode("ascii") if found else ""
        return ""

    def _proposals(self, base: str, new: str, origin: Origin) -> Iterator[tuple[Proposal, bool]]:
        """The commits that are new here, parents first, then the net change; and whether it is what lands."""
        reader = ProposalReader(self._repository, catalogue(), origin, check=self._deadline.check)
        fresh = new_commits(self._repository, new, self._known)
        for name in fresh:
            self._deadline.check()
            yield reader.commit(name), name == new
        brought = new_commits(self._repository, new, [base] if base else [])
        if not brought:
            return
        who = strongest([self._attribution(reader, name) for name in brought])
        forks = self._forks(base, new)
        parents = read_commit(self._repository.store, new).parents
        if brought == fresh == [new] and list(parents) == list(filter(None, forks)):
            return  # the one commit is the net change
        for fork in forks:
            yield reader.net(fork, new, who), True

    def _attribution(self, reader: ProposalReader, name: str) -> Attribution:
        self._deadline.check()
        try:
            return reader.attribution(read_commit(self._repository.store, name))
        except FormatError:
            return Attribution("unknown")

    def _forks(self, base: str, new: str) -> list[str]:
        """Where the pushed history parts from what is here; one empty name when they share nothing."""
        if not base:
            return [""]
        try:
            return merge_bases(self._repository, base, new)
        except (HistoryTooShallow, ObjectMissing):
            raise
        except RepositoryError:
            return [""]

    def _judge(self, proposal: Proposal, trust: Trust, origin: Origin, *, tip: bool) -> Judgement:
        now = self._now()
        if proposal.kind == "merge":
            commit = read_commit(self._repository.store, proposal.head_commit)
            proposal = replace(proposal, base_tree=starting_point(self._repository, commit)[0])
        context = Context(
            kill_switch=self._kill_switch,
            evaluate_expression=self._evaluate_expression,
            rules_out=self._rules_out,
            evidence=self._witnessed(proposal, trust, now) if tip and trust.policy.checks else {},
            replay_expected=tip,
            branch=origin.branch,
        )
        verdict = evaluate(proposal, trust.policy, context)
        approved: tuple[str, ...] = ()
        if verdict.decision == "review":
            lines = self._notes.lines(proposal.tree)
            approved = counted(lines, proposal.base_tree, proposal.tree, trust, keys=trust.keyring, now=now)
        stamp = Stamp(int(now), self._version, trust.policy.repository)
        return Judgement(verdict, trust, stamp, approved)

    def _witnessed(self, proposal: Proposal, trust: Trust, now: float) -> dict[str, CheckEvidence]:
        """The checks that trusted verdicts saw pass on this tree: the server runs nobody's code itself."""
        lines = [*self._notes.lines(proposal.tree), *self._notes.lines(proposal.head_commit)]
        passed = passed_checks(lines, proposal.tree, [Court(trust, trust.keyring, now)])
        return {
            check.name: CheckEvidence(
                check.name, "passed", "a trusted verdict saw it pass", tree=proposal.tree
            )
            for check in trust.policy.checks
            if passed is None or check.name in passed
        }


_NOTES = NOTES_REF.encode("ascii")
