"""Approvals: people's signatures on exactly one change, and which of them count."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from safeai_git.core.envelope import Envelope, Rejected, check_envelope
from safeai_git.core.errors import FormatError
from safeai_git.core.proposal import Proposal
from safeai_git.core.trust import KeyDirectory, TrustedKey, matches
from safeai_git.core.verdict import APPROVAL_NAMESPACE, Claim, parse_statement
from safeai_git.git.notes import Notes
from safeai_git.git.repository import Repository
from safeai_git.keys.ed25519 import verify
from safeai_git.trust import Trust

_CLOCKS_DIFFER_SECONDS = 600


class Approvals:
    """Reads the approvals that are kept in the notes."""

    def __init__(self, repository: Repository, *, now: Callable[[], float]) -> None:
        self._notes = Notes(repository)
        self._now = now

    def of(self, proposal: Proposal, trust: Trust) -> tuple[str, ...]:
        """Principals who approve of a proposal; see `counted`."""
        lines = self._notes.lines(proposal.tree)
        return counted(lines, proposal.base_tree, proposal.tree, trust, keys=trust.keyring, now=self._now())


def counted(
    lines: Iterable[bytes], base_tree: str, tree: str, trust: Trust, *, keys: KeyDirectory, now: float
) -> tuple[str, ...]:
    """The principals whose approvals count for the change from one tree to another, each once, sorted.

    An approval counts when a key that is listed for approvals signed it, not in the future, for this tree, this base
    tree and this repository under this very policy, and the policy takes that principal for an approver.

    Args:
        lines: Envelopes of any kind, and whatever else stands in a note.
        base_tree: Where the change starts; empty for nothing.
        tree: Where it leads.
        trust: The policy.
        keys: The keys that count.
        now: Seconds since 1970.
    """
    principals: set[str] = set()
    for line in lines:
        opened = _open(line, keys, now)
        if opened is None:
            continue
        claim, names = opened
        if (
            (claim.tree, claim.base_tree) == (tree, base_tree)
            and claim.policy_digest == trust.policy.digest
            and claim.repository == trust.policy.repository
        ):
            principals.update(name for name in names if _is_approver(name, trust))
    return tuple(sorted(principals))


def _open(line: bytes, keys: KeyDirectory, now: float) -> tuple[Claim, tuple[str, ...]] | None:
    try:
        envelope = Envelope.parse(line)
        claim = parse_statement(envelope.untrusted_payload)
    except FormatError:
        return None
    if claim.kind != "approval" or from_the_future(claim, now):
        return None
    opened = check_envelope(envelope, keys, purpose=APPROVAL_NAMESPACE, at=claim.time, verify=verify)
    return None if isinstance(opened, Rejected) else (claim, people(opened.signers))


def from_the_future(claim: Claim, now: float) -> bool:
    """Whether a statement is dated later than clocks that are set at all can differ."""
    return claim.time > now + _CLOCKS_DIFFER_SECONDS


def people(keys: Iterable[TrustedKey]) -> tuple[str, ...]:
    """Who is behind some keys, each once: the first principal of the first line that serves.

    A person with several keys should be listed under one principal, and so counts once.
    """
    return tuple(sorted({key.principal for key in keys}))


def _is_approver(principal: str, trust: Trust) -> bool:
    return all(matches(principal, patterns) for patterns in trust.policy.approvers)
