"""Verify: prove, offline, that every governed commit of a range has a verdict that lets it pass.

Trust begins at the range's base: its policy and its allowed signers. A commit inside the range is held against those
of its first parent when that parent is in the range too, for then the parent was itself verified here, and against
those of the base otherwise, so that no older state of the trust root can be brought back by forking from it.
Signatures count; names of checks, notes' places and identity strings do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from safeai_git.agents import catalogue
from safeai_git.approvals import counted, people
from safeai_git.core.attribution import Attribution
from safeai_git.core.envelope import Envelope, Rejected, check_envelope
from safeai_git.core.errors import FormatError
from safeai_git.core.objects import Commit
from safeai_git.core.verdict import VERDICT_NAMESPACE, Claim, parse_statement
from safeai_git.git.history import commits_between, recomputed_merge
from safeai_git.git.notes import Notes
from safeai_git.git.reader import Origin, ProposalReader
from safeai_git.git.repository import NOTES_REF, Repository
from safeai_git.git.store import read_commit
from safeai_git.keys.ed25519 import verify as verify_signature
from safeai_git.trust import Trust, TrustReader

Status = Literal["valid", "not-governed", "missing", "invalid", "denied", "unapproved"]

FETCH_NOTES = f"git fetch origin '+{NOTES_REF}:{NOTES_REF}'"


@dataclass(frozen=True, slots=True)
class CommitResult:
    """What was found about one commit.

    Attributes:
        commit: Its name in hex.
        status: ``valid`` and ``not-governed`` pass; the others say what is wrong.
        attribution: Who wrote it.
        reason: One sentence.
        hint: What brings a valid verdict, where something does.
        signed_by: Principals behind the verdict that counts.
        approved_by: Principals whose approvals were needed and count.
    """

    commit: str
    status: Status
    attribution: Attribution
    reason: str
    hint: str = ""
    signed_by: tuple[str, ...] = ()
    approved_by: tuple[str, ...] = ()

    @property
    def passes(self) -> bool:
        """True when nothing is wrong with it."""
        return self.status in ("valid", "not-governed")


class Verifier:
    """Verifies commits of one repository.

    Args:
        repository: An open repository.
        trust: Reads policies and signers.
        check: Called between commits.
    """

    def __init__(
        self, repository: Repository, trust: TrustReader, *, check: Callable[[], None] = lambda: None
    ) -> None:
        self._repository = repository
        self._trust = trust
        self._check = check
        self._reader = ProposalReader(repository, catalogue(), Origin())
        self._notes = Notes(repository)
        self._by_tree: dict[str, list[bytes]] | None = None

    def range(self, base: str, head: str) -> Iterator[CommitResult]:
        """Verify the commits between two, parents first."""
        root = self._trust.at(base)
        seen: set[str] = set()
        for name in commits_between(self._repository, base, head):
            self._check()
            yield self._commit(name, root, seen)
            seen.add(name)

    def _commit(self, name: str, root: Trust, seen: set[str]) -> CommitResult:
        try:
            commit = read_commit(self._repository.store, name)
        except FormatError as error:
            return CommitResult(name, "invalid", Attribution("unknown"), error.message)
        who = self._reader.attribution(commit)
        parent = commit.parents[0] if commit.parents else ""
        trusts = [self._trust.at(parent)] if parent in seen else []
        if root not in trusts:
            trusts.append(root)
        if not commit.problems and not self._is_governed(commit, parent, who, trusts):
            return CommitResult(
                name, "not-governed", who, f"the policy does not govern changes by class '{who.author_class}'"
            )
        base_tree = read_commit(self._repository.store, parent).tree if parent else ""
        lines = [*self._notes.lines(name), *self._notes.lines(commit.tree)]
        results = [_best(name, who, lines, commit.tree, base_tree, trust) for trust in trusts]
        if all(result.status == "missing" for result in results):
            lines = self._elsewhere(commit.tree)
            results = [_best(name, who, lines, commit.tree, base_tree, trust) for trust in trusts]
        order = ("valid", "unapproved", "denied", "invalid", "missing")
        return min(results, key=lambda result: order.index(result.status))

    def _is_governed(self, commit: Commit, parent: str, who: Attribution, trusts: list[Trust]) -> bool:
        clean_merge = len(commit.parents) > 1 and recomputed_merge(self._repository, commit.parents) == (
            commit.tree,
            True,
        )
        if clean_merge:
            return False  # it brings nothing that its parents, judged themselves, did not have
        if any(layer.governs(who.author_class) for trust in trusts for layer in trust.policy.layers):
            return True
        old = read_commit(self._repository.store, parent).tree if parent else ""
        if not self._governance_differs(old, commit.tree):
            return False
        changes = self._reader.comparer.compare(old, commit.tree).changes
        return any(
            layer.governance.first_match_folded(change.path)
            for change in changes
            for trust in trusts
            if not trust.builtin
            for layer in trust.policy.layers
        )

    def _governance_differs(self, old: str, new: str) -> bool:
        """A quick look at the roots: governance files live in one folder, by whatever spelling of it."""
        return bool(set(self._reader.comparer.entries(old)) ^ set(self._reader.comparer.entries(new)))

    def _elsewhere(self, tree: str) -> list[bytes]:
        """Envelopes about a tree that hang on some other object: after an amend, a squash or a rebase."""
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


def _best(
    name: str, who: Attribution, lines: list[bytes], tree: str, base_tree: str, trust: Trust
) -> CommitResult:
    """The newest verdict that counts decides; where none counts, the reason why the best one does not."""
    verdicts: list[tuple[int, Claim, tuple[str, ...]]] = []
    reasons: list[str] = []
    for line in sorted(set(lines)):
        try:
            envelope = Envelope.parse(line)
            claim = parse_statement(envelope.untrusted_payload)
        except FormatError as error:
            reasons.append(error.message)
            continue
        if claim.kind != "verdict":
            continue
        mismatch = _mismatch(claim, tree, base_tree, trust)
        if mismatch:
            reasons.append(mismatch)
            continue
        opened = check_envelope(
            envelope, trust.keyring, purpose=VERDICT_NAMESPACE, at=claim.time, verify=verify_signature
        )
        if isinstance(opened, Rejected):
            reasons.append(opened.message)
            continue
        verdicts.append((claim.time, claim, people(opened.signers)))
    if not verdicts:
        if reasons:
            hint = "judge the commit again: 'safeai-git check --range BASE..HEAD' with a trusted key"
            return CommitResult(name, "invalid", who, reasons[-1], hint)
        hint = f"fetch the verdicts ({FETCH_NOTES}) or make them ('safeai-git check --range BASE..HEAD')"
        return CommitResult(name, "missing", who, "no verdict is there for this commit", hint)
    severity = {"allow": 0, "review": 1, "deny": 2}
    _, claim, signed_by = max(verdicts, key=lambda one: (one[0], severity[one[1].decision]))
    if claim.decision == "allow":
        return CommitResult(name, "valid", who, "a trusted verdict allows it", signed_by=signed_by)
    if claim.decision == "deny":
        return CommitResult(
            name, "denied", who, "the verdict denies it", "'safeai-git show' tells why", signed_by
        )
    approved = counted(lines, base_tree, tree, trust)
    needed = trust.policy.threshold
    if len(approved) >= needed:
        return CommitResult(name, "valid", who, "approved", signed_by=signed_by, approved_by=approved)
    return CommitResult(
        name,
        "unapproved",
        who,
        f"the verdict asks for review; {len(approved)} of {needed} approvals are there",
        f"an approver runs 'safeai-git approve {name[:12]}'",
        signed_by,
        approved,
    )


def _mismatch(claim: Claim, tree: str, base_tree: str, trust: Trust) -> str:
    """Why a verdict is not about this change, empty when it is."""
    if claim.tree != tree:
        return f"the verdict is about tree {claim.tree[:12]}, the commit's is {tree[:12]}"
    if claim.base_tree != base_tree:
        return f"the verdict starts from tree {claim.base_tree[:12]}, the commit from {base_tree[:12]}"
    if claim.repository != trust.policy.repository:
        return (
            f"the verdict is about the repository '{claim.repository}', this is '{trust.policy.repository}'"
        )
    if claim.policy_digest != trust.policy.digest:
        return "the verdict was made under another policy"
    if not claim.governed:
        return "the verdict says that the change is not governed, and it is"
    return ""
