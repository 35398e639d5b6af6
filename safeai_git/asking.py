"""Asking the Governor to judge: a change goes there as a git bundle, and comes back as verdicts that it signed and logged.

What the answer claims is believed only as far as the receipts prove it: each verdict is on the log, about this repository.
Whose signature counts is nothing that is said here: that is for the allowed signers of the base commit, or the key list.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from safeai_git.client.governor import GovernorClient
from safeai_git.core.errors import FormatError, LogProofInvalid
from safeai_git.core.finding import Decision
from safeai_git.core.log.checkpoint import OpenedCheckpoint
from safeai_git.core.receipt import Receipt, check_receipt
from safeai_git.core.verdict import Claim, parse_statement
from safeai_git.delivery import Destination, checkpoints
from safeai_git.git.bundle import make_bundle
from safeai_git.git.notes import Notes
from safeai_git.git.repository import Repository
from safeai_git.keys.ed25519 import verify

SECONDS = 960.0
"""What one decision may take: a Governor that replays checks gives itself 900 seconds."""


class Decided(Struct, frozen=True):
    """What the Governor made of a change.

    Attributes:
        decision: The strictest of everything that it judged, and of the verdicts that came back.
        findings: Rule and sentence of each finding, as the Governor says them: foreign text.
        digests: Of the verdicts' envelopes, which are in the notes now, with their receipts.
    """

    decision: Decision
    findings: tuple[tuple[str, str], ...]
    digests: tuple[str, ...]


class Asking:
    """Asks one Governor about one repository's changes.

    Args:
        repository: An open repository.
        environ: The environment, for the person's state folder.
        to: The Governor.
    """

    def __init__(self, repository: Repository, environ: Mapping[str, str], to: Destination) -> None:
        self._repository = repository
        self._keys = to.keys
        self._client = GovernorClient(to.address, seconds=SECONDS)
        self._checkpoints = checkpoints(repository, environ)

    def decide(self, name: str, base: str, head: str, branch: str) -> Decided:
        """Have a change judged, and keep the verdicts.

        Args:
            name: The repository, as the policy names it.
            base: Id of the commit that the change goes to.
            head: Id of its end.
            branch: The change's branch; empty where unknown.

        Raises:
            GovernorUnavailable: It did not answer in time, or knows nobody of that token.
            LogProofInvalid: It answered with what is not proven, or its log was forked.
            FormatError: It cannot judge this change, or what came back is no answer.
            StorageError: The notes cannot be written.
        """
        answer = self._client.decide(name, base, head, branch, make_bundle(self._repository, base, head))
        notes: dict[str, list[bytes]] = {}
        newest: OpenedCheckpoint | None = None
        decision = answer.decision
        for envelope, proof in answer.verdicts:
            receipt = Receipt(envelope.digest, proof)
            try:
                logged = check_receipt(receipt, envelope, self._keys, verify)
                claim = _about(parse_statement(envelope.untrusted_payload), name)
            except (FormatError, LogProofInvalid) as error:
                raise LogProofInvalid(
                    f"the Governor's verdict {envelope.digest[:16]} is not what was asked for: {error.message}",
                    hint="check the log's key, and tell whoever runs the Governor",
                ) from error
            if newest is None or logged.checkpoint.checkpoint.size > newest.checkpoint.size:
                newest = logged.checkpoint
            for subject in filter(None, (*claim.commits, claim.tree)):
                notes.setdefault(subject, []).extend((envelope.format(), receipt.format()))
        if newest is not None:
            self._checkpoints.advance(newest, self._keys, self._client.consistency)
        if notes:
            Notes(self._repository).add_all(notes)
        digests = tuple(envelope.digest for envelope, _ in answer.verdicts)
        return Decided(decision, answer.findings, digests)


def _about(claim: Claim, name: str) -> Claim:
    if claim.kind != "verdict" or claim.repository != name:
        raise FormatError(f"it is a statement about '{claim.repository}', not a verdict about '{name}'")
    return claim
