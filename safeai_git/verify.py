"""Verify: prove, offline, that every governed commit of a range has a verdict that lets it pass.

Trust begins at the range's base: its policy and its allowed signers. A commit inside the range is held against those
of its first parent when that parent is in the range too, for then the parent was itself verified here; against those
that were in force on the main line (first parents, from the head) just before the commit came into it; and against
those of the base. A key must be trusted on the main line too, so that no older state of the trust root can be brought
back by forking from it. Signatures count; names of checks, notes' places and identity strings do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Literal

from msgspec import Struct

from safeai_git.agents import catalogue
from safeai_git.approvals import counted
from safeai_git.core.attribution import Attribution
from safeai_git.core.display import safe_text
from safeai_git.core.envelope import Envelope
from safeai_git.core.errors import FormatError, LogProofInvalid
from safeai_git.core.log.note import NoteKey
from safeai_git.core.receipt import START as RECEIPT
from safeai_git.core.receipt import Receipt, check_receipt
from safeai_git.core.values import replace
from safeai_git.core.verdict import parse_statement
from safeai_git.gate import starting_point
from safeai_git.git.facts import Origin
from safeai_git.git.history import commits_between, merge_bases, merged_tree
from safeai_git.git.notes import Notes
from safeai_git.git.reader import ProposalReader, strongest
from safeai_git.git.repository import Repository
from safeai_git.git.store import read_commit
from safeai_git.keys.ed25519 import verify as verify_signature
from safeai_git.parallel import in_processes
from safeai_git.trust import Trust, TrustReader
from safeai_git.weighing import FETCH_NOTES, Court, Subject, Weighed, passed_checks, weigh

__all__ = ["FETCH_NOTES", "CommitResult", "Status", "Verifier"]

Status = Literal["valid", "not-governed", "missing", "invalid", "denied", "unapproved"]

LEAST_OF_A_PROCESS = 250
"""Commits for which another process pays: it takes about 20 ms to start, and a commit about 0.3."""

_BEST_FIRST = ("valid", "unapproved", "denied", "invalid", "missing")


class CommitResult(Struct, frozen=True):
    """What was found about one commit.

    Attributes:
        commit: Its name in hex.
        status: ``valid`` and ``not-governed`` pass; the others say what is wrong.
        attribution: Who wrote it, without the message.
        reason: One sentence.
        hint: What brings a valid verdict, where something does.
        signed_by: Principals behind the verdict that counts.
        approved_by: Principals whose approvals were needed and count.
        logged: Where and when the log took the verdict, if receipts were asked for and one holds.
    """

    commit: str
    status: Status
    attribution: Attribution
    reason: str
    hint: str = ""
    signed_by: tuple[str, ...] = ()
    approved_by: tuple[str, ...] = ()
    logged: str = ""

    @property
    def passes(self) -> bool:
        """True when nothing is wrong with it."""
        return self.status in ("valid", "not-governed")


class Verifier:
    """Verifies commits of one repository.

    Args:
        repository: An open repository.
        trust: Reads policies and signers.
        now: Seconds since 1970; what is dated later than that counts for nothing.
        check: Called between commits.
        log_keys: Keys of a log that has to hold each verdict that counts; empty where receipts are not asked for.
        approvals: Count approvals also where a verdict allows without any.
        least: Commits for which another process is started.
    """

    def __init__(
        self,
        repository: Repository,
        trust: TrustReader,
        *,
        now: Callable[[], float],
        check: Callable[[], None] = lambda: None,
        log_keys: tuple[NoteKey, ...] = (),
        approvals: bool = False,
        least: int = LEAST_OF_A_PROCESS,
    ) -> None:
        self._least = least
        self._approvals = approvals
        self._log_keys = log_keys
        self._repository = repository
        self._trust = trust
        self._check = check
        self._now = now
        self._reader = ProposalReader(repository, catalogue(), Origin())
        self._notes = Notes(repository)
        self._by_tree: dict[str, list[bytes]] | None = None

    def range(self, base: str, head: str) -> Iterator[CommitResult]:
        """Verify the commits between two, parents first."""
        root = self._trust.at(base)
        names = commits_between(self._repository, base, head)
        parents = {name: self._parents(name) for name in names}
        before = came_after(parents, head)

        def trusts(name: str) -> list[Trust]:
            self._check()
            found = [self._trust.at(before[name]) if before[name] else root]
            found += [self._trust.at(up) for up in parents[name][:1] if up in parents]
            return [*found, root]

        self._notes.annotated()  # read once, here, and not in every copy
        owed: dict[str, frozenset[str]] = {}
        with closing(in_processes(lambda name: self._commit(name, trusts(name)), names, self._least)) as each:
            for name, (result, own) in zip(names, each, strict=True):
                if (
                    root.policy.checks
                ):  # a later commit pays what an earlier one owes, so this is done in order
                    debt = own.union(*(owed.get(up, ()) for up in parents[name]))
                    owed[name] = self._unpaid(debt, name, trusts(name)) if debt else debt
                lands = name == head and result.passes and owed.get(head)
                yield self._replayed(result, base, root, owed[head]) if lands else result

    def landing(self, base: str, head: str) -> CommitResult:
        """Whether what merging `head` into `base` puts there has a verdict of its own: that of the merge's result.

        Args:
            base: The branch's tip, whose policy and signers judge.
            head: The end of the change.
        """
        root = self._trust.at(base)
        names = commits_between(self._repository, base, head)
        read = (read_commit(self._repository.store, name) for name in names)
        who = strongest([self._reader.attribution(commit) for commit in read] or [Attribution("unknown")])
        tree, clean = merged_tree(self._repository, base, head)
        if not clean:
            why = f"it does not merge into {base[:12]} without conflicts"
            return CommitResult(head, "invalid", who, why, "merge or rebase, and have it judged again")
        subject = Subject(tree, read_commit(self._repository.store, base).tree, who)
        court = Court(root, root.keyring, self._now())
        if subject.tree == subject.base_tree or not self._is_governed(subject, False, [court]):
            return CommitResult(head, "not-governed", who, "the policy does not govern what would land")
        lines = [*self._notes.lines(tree), *self._elsewhere(tree)]
        found = weigh(lines, subject, court)
        result = CommitResult(
            head,
            found.status,
            who,
            f"merged into {base[:12]}: {found.reason}",
            found.hint.replace("COMMIT", f"{base[:12]}..{head[:12]}"),
            found.signed_by,
            found.approved_by,
        )
        if self._log_keys and found.status == "valid" and found.envelope is not None:
            result = self._logged(result, found.envelope, lines)
        owed = frozenset(check.name for check in root.policy.checks_for(self._paths(subject)))
        if (
            result.passes
            and self._wants_replay(found, who, [court])
            and self._still(owed, lines, tree, [court])
        ):
            return replace(
                result, status="invalid", reason="no trusted verdict saw the checks pass on what would land"
            )
        return result

    def _parents(self, name: str) -> tuple[str, ...]:
        try:
            return read_commit(self._repository.store, name).parents
        except FormatError:
            return ()  # told when its turn comes

    def _commit(self, name: str, trusts: list[Trust]) -> tuple[CommitResult, frozenset[str]]:
        """What is found about a commit, and the checks that it leaves to a later one.

        Args:
            name: The commit.
            trusts: What it may be held against; the keys of the first have the last word.
        """
        owed = frozenset[str]()
        try:
            commit = read_commit(self._repository.store, name)
        except FormatError as error:
            return CommitResult(name, "invalid", Attribution("unknown"), error.message), owed
        who = self._reader.attribution(commit)
        base_tree, nothing_new = starting_point(self._repository, commit)
        subject = Subject(commit.tree, base_tree, who)
        # A result goes from process to process, and the message is of no more use to it.
        who = replace(who, message=None)
        courts = self._courts(trusts)
        lines = [*self._notes.lines(name), *self._notes.lines(commit.tree)]
        if not commit.problems and not self._is_governed(subject, nothing_new, courts):
            if nothing_new:
                reason = "a merge that adds nothing of its own"
            else:
                told = _best([weigh(lines, subject, court) for court in courts])
                if told.claim is not None and told.status != "valid":
                    trust, keys = courts[-1].trust, courts[0].keys
                    approved = counted(lines, base_tree, commit.tree, trust, keys=keys, now=self._now())
                    return _known_better(name, who, told, approved, trust.policy.threshold), owed
                reason = f"the policy does not govern changes by class '{who.author_class}'"
            return CommitResult(name, "not-governed", who, reason), owed
        found = _best([weigh(lines, subject, court) for court in courts])
        if found.status in ("missing", "invalid"):
            there = self._elsewhere(commit.tree)
            if there:
                lines += there
                found = _best([found, *(weigh(lines, subject, court) for court in courts)])
        if found.status == "valid" and self._wants_replay(found, who, courts):
            owed = frozenset(check.name for check in courts[-1].trust.policy.checks_for(self._paths(subject)))
        hint = found.hint.replace("COMMIT", name[:12])
        approved = found.approved_by
        if self._approvals and not approved:
            trust, keys = courts[-1].trust, courts[0].keys
            approved = counted(lines, base_tree, commit.tree, trust, keys=keys, now=courts[0].now)
        result = CommitResult(name, found.status, who, found.reason, hint, found.signed_by, approved)
        if self._log_keys and found.status == "valid" and found.envelope is not None:
            result = self._logged(result, found.envelope, lines)
        return result, owed

    def _courts(self, trusts: list[Trust]) -> list[Court]:
        now = self._now()
        return [Court(trust, trusts[0].keyring, now) for trust in {id(one): one for one in trusts}.values()]

    def _unpaid(self, owed: frozenset[str], name: str, trusts: list[Trust]) -> frozenset[str]:
        """The checks that are owed when a commit is reached and that nobody saw pass there."""
        tree = read_commit(self._repository.store, name).tree
        lines = [*self._notes.lines(name), *self._notes.lines(tree)]
        return self._still(owed, lines, tree, self._courts(trusts))

    def _logged(self, result: CommitResult, envelope: Envelope, lines: list[bytes]) -> CommitResult:
        """The result, unless no log of the keys that were asked for holds the verdict."""
        why = "no receipt of it is there"
        for line in lines:
            if not line.startswith(RECEIPT) or envelope.digest.encode() not in line[:120]:
                continue
            try:
                found = check_receipt(Receipt.parse(line), envelope, self._log_keys, verify_signature)
            except (FormatError, LogProofInvalid) as error:
                why = error.message
            else:
                return replace(result, logged=f"entry {found.index}, {found.time}")
        return replace(
            result,
            status="invalid",
            reason=f"the log {self._log_keys[0].name} does not vouch for the verdict: {why}",
            hint=f"'safeai-git push' submits it, or fetch the receipts ({FETCH_NOTES})",
        )

    def _is_governed(self, subject: Subject, nothing_new: bool, courts: list[Court]) -> bool:
        if nothing_new:
            return False  # its parents, judged themselves, had all of it
        layers = [layer for court in courts for layer in court.trust.policy.layers]
        if any(layer.governs(layer.counted(subject.who).author_class) for layer in layers):
            return True
        found = self._reader.comparer.compare(subject.base_tree, subject.tree)
        if found.malformations:
            return True  # what git would not have written is judged whoever made it
        if not found.complete and any(layer.ai_until_shown_human for layer in layers):
            return True
        paths = [change.path for change in found.changes] if found.complete else self._paths(subject)
        return any(
            layer.watched.first_match_folded(path)
            for path in paths
            for court in courts
            if not court.trust.builtin
            for layer in court.trust.policy.layers
        )

    def _paths(self, subject: Subject) -> list[bytes]:
        return self._reader.paths(subject.base_tree, subject.tree)

    def _wants_replay(self, found: Weighed, who: Attribution, courts: list[Court]) -> bool:
        """Whether a verdict that counts leaves the replay to a later commit; a person may have waived it."""
        policy = courts[-1].trust.policy
        if not policy.checks or not policy.has_say(who) or found.claim is None:
            return False
        first = found.claim.data["predicate"]["findings"]["first"]
        return not (found.approved_by and any(one["rule"] == "replay-failed" for one in first))

    def _still(
        self, owed: frozenset[str], lines: list[bytes], tree: str, courts: list[Court]
    ) -> frozenset[str]:
        """What is owed after the checks that trusted verdicts saw pass on this tree."""
        if not owed:
            return owed
        passed = passed_checks([*lines, *self._elsewhere(tree)], tree, courts)
        return frozenset() if passed is None else owed - passed

    def _replayed(self, result: CommitResult, base: str, root: Trust, owed: frozenset[str]) -> CommitResult:
        """The head's result, unless what lands there was never replayed.

        A range is replayed at its end, so a verdict on a step inside one says nothing of its checks, and a step that
        is handed in by itself has to be replayed.
        """
        tree = read_commit(self._repository.store, result.commit).tree
        paths: list[bytes] = []
        for fork in merge_bases(self._repository, base, result.commit):
            start = read_commit(self._repository.store, fork).tree
            paths += self._paths(Subject(tree, start, result.attribution))
        missing = sorted(owed & {check.name for check in root.policy.checks_for(paths)})
        if not missing:
            return result
        return replace(
            result,
            status="invalid",
            reason=f"no trusted verdict saw the check '{missing[0]}' pass on what lands here",
            hint="replay it: 'safeai-git check --range BASE..HEAD' with a trusted key",
        )

    def _elsewhere(self, tree: str) -> list[bytes]:
        """Envelopes about a tree, on whatever object they hang: after an amend, a squash or a rebase."""
        if self._by_tree is None:
            self._by_tree = {}
            for name in list(self._notes.annotated()):
                for line in self._notes.lines(name):
                    try:
                        claim = parse_statement(Envelope.parse(line).untrusted_payload)
                    except FormatError:
                        continue
                    self._by_tree.setdefault(claim.tree, []).append(line)
        return self._by_tree.get(tree, [])


def _known_better(
    name: str, who: Attribution, told: Weighed, approved: tuple[str, ...], needed: int
) -> CommitResult:
    """What a commit comes to that bears no mark of an agent, while a trusted verdict on just this change names one.

    The evidence follows the trees. An approval of them shows that a person stands behind the change, and lifts it.
    """
    said = told.claim.data["predicate"]["attribution"] if told.claim else {}
    agent = safe_text(str(said.get("agent") or said.get("class") or "an agent"))
    reason = f"a verdict says that this change is {agent}'s, and does not let it pass"
    if len(approved) >= needed:
        return CommitResult(name, "valid", who, f"{reason}; approved", "", told.signed_by, approved)
    reason = f"{reason}; {len(approved)} of {needed} approvals are there"
    hint = f"an approver runs 'safeai-git approve {name[:12]}'"
    return CommitResult(name, "unapproved", who, reason, hint, told.signed_by, approved)


def _best(found: list[Weighed]) -> Weighed:
    return min(found, key=lambda one: _BEST_FIRST.index(one.status))


def came_after(parents: dict[str, tuple[str, ...]], head: str) -> dict[str, str]:
    """For each commit of a range the one that the main line stood at before the commit came into it.

    The main line is that of first parents. Empty for what came in right after the range's base, or after a commit
    that is not in the range.
    """
    line = [head]
    while parents.get(line[-1]):
        line.append(parents[line[-1]][0])
    before: dict[str, str] = {}
    for entry in reversed(line):
        anchor = next(iter(parents.get(entry, ())), "")
        pending = [entry]
        while pending:
            name = pending.pop()
            if name in parents and name not in before:
                before[name] = anchor if anchor in parents else ""
                pending += parents[name]
    return before
