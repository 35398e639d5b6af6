"""Evidence bundles, made from a repository: what a verdict on one commit rests on, gathered into one file.

Nothing is signed and nothing is believed that `bundle.examine` would not believe again from the file alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from safeai_git.agents import catalogue
from safeai_git.approvals import counted
from safeai_git.bundle import FARTHEST_POLICY, policy_entry
from safeai_git.core.bundle import Bundle, GitObject, PolicyText
from safeai_git.core.canonical import JSON
from safeai_git.core.envelope import Envelope
from safeai_git.core.errors import FormatError, LogProofInvalid, RepositoryError
from safeai_git.core.log.checkpoint import Checkpoint
from safeai_git.core.log.entry import completed
from safeai_git.core.log.merkle import leaf_hash, verify_inclusion
from safeai_git.core.log.note import Note
from safeai_git.core.log.proof import LogProof
from safeai_git.core.objects import Commit, parse_commit
from safeai_git.core.receipt import START as RECEIPT
from safeai_git.core.receipt import Receipt
from safeai_git.core.verdict import parse_statement
from safeai_git.gate import starting_point
from safeai_git.git.facts import Origin
from safeai_git.git.notes import Notes
from safeai_git.git.reader import who_wrote
from safeai_git.git.repository import Repository
from safeai_git.git.store import read_commit
from safeai_git.trust import TrustReader
from safeai_git.weighing import Court, Subject, weigh


def make(
    repository: Repository,
    trust: TrustReader,
    name: str,
    *,
    now: float,
    organisation: bytes | None,
    explicit: bytes | None,
    report: Callable[[str], dict[str, JSON] | None],
    receipts: Iterable[LogProof] = (),
) -> Bundle:
    """Gather the evidence about a commit.

    Args:
        repository: An open repository.
        trust: Reads policies and signers.
        name: The commit's name in hex.
        now: Seconds since 1970.
        organisation: The text of the organisation's policy, if `trust` has one.
        explicit: The text of the policy file that judges in place of the repository's, if `trust` has one.
        report: Gives a full report by its digest; ``None`` leaves it out.
        receipts: What logs said, beside what the notes hold; those that are not about these envelopes are left out.

    Raises:
        RepositoryError: No verdict of a trusted key is there.
    """
    commit = read_commit(repository.store, name)
    notes = Notes(repository)
    lines = sorted({*notes.lines(name), *notes.lines(commit.tree)})
    base_tree, _ = starting_point(repository, commit)
    subject = Subject(commit.tree, base_tree, who_wrote(commit, catalogue(), Origin()))
    first = trust.at(commit.parents[0] if commit.parents else "")
    reason = ""
    for at in _first_parents(repository, commit):
        root = trust.at(at)
        found = weigh(lines, subject, Court(root, first.keyring, now))
        if found.claim is not None and found.envelope is not None:
            break
        reason = reason or found.reason
    else:
        raise RepositoryError(
            f"there is no verdict that a trusted key signed about {name[:12]}: {reason}",
            hint="'safeai-git show' says what is kept, 'safeai-git verify' how to get a verdict",
        )
    approvals = [
        one
        for one in map(_approval, lines)
        if one is not None
        and found.claim.decision == "review"
        and counted([one.format()], base_tree, commit.tree, root, keys=first.keyring, now=now)
    ]
    kept = {one.envelope: one for one in map(_kept, reversed(lines)) if one is not None}
    proofs = list(receipts)
    proven = (kept.get(one.digest) or _receipt(one, proofs) for one in (found.envelope, *approvals))
    text = explicit if explicit is not None else _text_at(repository, at)
    where = "" if explicit is not None else at
    return Bundle(
        commit=name,
        objects=tuple(_objects(repository, name, where)),
        policy=PolicyText(where, _utf8(text), _utf8(organisation)),
        verdict=found.envelope,
        approvals=tuple(approvals),
        report=report(found.claim.data["predicate"]["report"]["sha256"]),
        receipts=tuple(one for one in proven if one is not None),
    )


def _first_parents(repository: Repository, commit: Commit) -> Iterator[str]:
    """The commits whose policy may have judged a commit, nearest first; the empty name for a first commit."""
    if not commit.parents:
        yield ""
        return
    at = commit.parents[0]
    for _ in range(FARTHEST_POLICY):
        yield at
        parents = read_commit(repository.store, at).parents
        if not parents:
            return
        at = parents[0]


def _approval(line: bytes) -> Envelope | None:
    try:
        envelope = Envelope.parse(line)
        return envelope if parse_statement(envelope.untrusted_payload).kind == "approval" else None
    except FormatError:
        return None


def _kept(line: bytes) -> Receipt | None:
    try:
        return Receipt.parse(line) if line.startswith(RECEIPT) else None
    except FormatError:
        return None


def _receipt(envelope: Envelope, proofs: Iterable[LogProof]) -> Receipt | None:
    """The receipt that is about an envelope, if one is. Whose log it is, is not asked here."""
    for proof in proofs:
        try:
            leaf = leaf_hash(completed(proof.extra or b"", envelope.format()))
            checkpoint = Checkpoint.parse(Note.parse(proof.checkpoint).text)
            verify_inclusion(leaf, proof.index, checkpoint.size, proof.path, checkpoint.root)
        except (FormatError, LogProofInvalid):
            continue
        return Receipt(envelope.digest, proof)
    return None


def _text_at(repository: Repository, commit: str) -> bytes | None:
    found = policy_entry(repository.store.read, commit) if commit else None
    return repository.store.read(found.id)[1] if found else None


def _utf8(text: bytes | None) -> str | None:
    """A policy's text; it was read as one, so it is UTF-8."""
    return None if text is None else text.decode("utf-8")


def _objects(repository: Repository, name: str, policy_commit: str) -> Iterator[GitObject]:
    """The commit, its first parents down to the policy's, and the trees that lead to the policy's file."""
    at = name
    while True:
        kind, data = repository.store.read(at)
        yield GitObject(kind, data)
        parents = parse_commit(data).parents
        if not parents or at == policy_commit or (at != name and not policy_commit):
            break
        at = parents[0]
    if policy_commit:
        seen: list[GitObject] = []

        def read(tree: str) -> tuple[str, bytes]:
            kind, data = repository.store.read(tree)
            if kind == "tree":
                seen.append(GitObject(kind, data))
            return kind, data

        policy_entry(read, policy_commit)
        yield from seen
