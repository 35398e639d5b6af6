"""Approvals: people's signatures on exactly one change, and which of them count."""

from __future__ import annotations

from collections.abc import Iterable

from safeai_git.core.envelope import Envelope, Rejected, check_envelope
from safeai_git.core.errors import FormatError
from safeai_git.core.proposal import Proposal
from safeai_git.core.trust import TrustedKey, matches
from safeai_git.core.verdict import APPROVAL_NAMESPACE, Claim, parse_statement
from safeai_git.git.notes import Notes
from safeai_git.git.repository import Repository
from safeai_git.keys.ed25519 import verify
from safeai_git.trust import Trust


class Approvals:
    """Reads the approvals that are kept in the notes."""

    def __init__(self, repository: Repository, notes: Notes | None = None) -> None:
        self._notes = notes or Notes(repository)

    def of(self, proposal: Proposal, trust: Trust) -> tuple[str, ...]:
        """Principals who approve of a proposal; see `counted`."""
        return counted(self._notes.lines(proposal.tree), proposal.base_tree, proposal.tree, trust)


def counted(lines: Iterable[bytes], base_tree: str, tree: str, trust: Trust) -> tuple[str, ...]:
    """The principals whose approvals count for the change from one tree to another, each once, sorted.

    An approval counts when a key that is listed for approvals signed it, for this tree, this base tree and this
    repository under this very policy, and the policy takes that principal for an approver.
    """
    principals: set[str] = set()
    for line in lines:
        opened = _open(line, trust)
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


def _open(line: bytes, trust: Trust) -> tuple[Claim, tuple[str, ...]] | None:
    try:
        envelope = Envelope.parse(line)
        claim = parse_statement(envelope.untrusted_payload)
        if claim.kind != "approval":
            return None
    except FormatError:
        return None
    opened = check_envelope(envelope, trust.keyring, purpose=APPROVAL_NAMESPACE, at=claim.time, verify=verify)
    return None if isinstance(opened, Rejected) else (claim, people(opened.signers))


def people(keys: Iterable[TrustedKey]) -> tuple[str, ...]:
    """Who is behind some keys, each once: the first principal of the first line that serves.

    A person with several keys should be listed under one principal, and so counts once.
    """
    return tuple(sorted({key.lines[0].principals[0] for key in keys}))


def _is_approver(principal: str, trust: Trust) -> bool:
    return all(matches(principal, patterns) for patterns in trust.policy.approvers)
