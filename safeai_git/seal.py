"""Sealing: a judgement becomes a signed envelope, kept in the notes and in the spool for the Governor."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from safeai_git.client.spool import Spool
from safeai_git.core import canonical
from safeai_git.core.envelope import Envelope
from safeai_git.core.errors import FormatError
from safeai_git.core.verdict import Claim, approval, parse_statement, report, statement
from safeai_git.files import write_atomically
from safeai_git.gate import Judgement
from safeai_git.git.notes import Notes
from safeai_git.git.repository import Repository
from safeai_git.keys.ed25519 import verify
from safeai_git.keys.port import Signer
from safeai_git.keys.seal import seal


class Sealed(Struct, frozen=True):
    """A signed verdict: the envelope, and the report that it names by digest."""

    envelope: Envelope
    report_digest: str


class Sealer:
    """Signs and keeps verdicts of one repository.

    Args:
        repository: Where notes, reports and spool are kept.
        signer: The key.
    """

    def __init__(self, repository: Repository, signer: Signer) -> None:
        self._repository = repository
        self._signer = signer
        self._notes = Notes(repository)

    def seal(self, judgement: Judgement) -> Sealed:
        """Sign a verdict. Nothing is stored yet."""
        full = report(judgement.verdict, judgement.stamp)
        envelope = seal(statement(judgement.verdict, judgement.stamp), [self._signer])
        return Sealed(envelope, canonical.digest(full))

    def has(self, judgement: Judgement) -> bool:
        """Whether this key has signed the same decision on the same change under the same policy already."""
        wanted = _essence(parse_statement(statement(judgement.verdict, judgement.stamp)))
        proposal = judgement.verdict.proposal
        return any(
            self._is_ours(line, wanted) for line in self._notes.lines(proposal.head_commit or proposal.tree)
        )

    def _is_ours(self, line: bytes, wanted: tuple[object, ...]) -> bool:
        """A line that only claims to be ours must not keep us from signing."""
        try:
            envelope = Envelope.parse(line)
            claim = parse_statement(envelope.untrusted_payload)
        except FormatError:
            return False
        return (
            claim.kind == "verdict"
            and _essence(claim) == wanted
            and any(
                one.keyid == self._signer.key_id
                and verify(self._signer.public.raw, one.sig, envelope.signed_bytes)
                for one in envelope.signatures
            )
        )

    def keep(self, judgement: Judgement, sealed: Sealed) -> None:
        """Store one signed verdict; see `keep_all`."""
        self.keep_all([(judgement, sealed)])

    def keep_all(self, verdicts: Iterable[tuple[Judgement, Sealed]]) -> None:
        """Store signed verdicts: the report of each, its place in the spool if there is a Governor, and its note.

        The note stands on the commit and on its tree, so that it is found again after an amend or a squash; a change
        without a commit has only the tree. All notes are added in one update, after everything else is stored.

        Raises:
            StorageError: Something could not be written; what was stored before is whole, and of the notes none is.
        """
        private = self._repository.private_directory
        notes: dict[str, list[bytes]] = {}
        for judgement, sealed in verdicts:
            data = canonical.dumps(report(judgement.verdict, judgement.stamp))
            write_atomically(private / "reports" / f"{sealed.report_digest}.json", data)
            if judgement.trust.policy.governor is not None:
                Spool(private / "spool").add(sealed.envelope)
            proposal = judgement.verdict.proposal
            for name in filter(None, (proposal.head_commit, proposal.tree)):
                notes.setdefault(name, []).append(sealed.envelope.format())
        self._notes.add_all(notes)

    def approve(self, judgement: Judgement, reason: str) -> Envelope:
        """Sign an approval of exactly this change and keep it on its tree."""
        proposal, policy = judgement.verdict.proposal, judgement.trust.policy
        payload = approval(
            base_tree=proposal.base_tree,
            tree=proposal.tree,
            policy_digest=policy.digest,
            repository=policy.repository,
            time=judgement.stamp.time,
            reason=reason,
        )
        envelope = seal(payload, [self._signer])
        if policy.governor is not None:
            Spool(self._repository.private_directory / "spool").add(envelope)
        self._notes.add(proposal.tree, [envelope.format()])
        return envelope


def _essence(claim: Claim) -> tuple[object, ...]:
    """What has to be equal for one verdict to stand for another."""
    who = claim.data["predicate"]["attribution"]
    bound = (claim.base_tree, claim.tree, claim.repository, claim.policy_digest, claim.governed)
    return (*bound, claim.decision, claim.checks, who["class"], who.get("agent"))
