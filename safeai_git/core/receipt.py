"""A receipt as a line of the notes: which envelope, and the log's proof that it holds it.

The line is canonical JSON, ``{"envelope": SHA-256 of the envelope's line, "proof": tlog-proof}``, so that two histories of
notes merge line by line. What it is worth depends on the log's signature alone. Format: ``docs/formats/receipt.md``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from safeai_git.core import canonical
from safeai_git.core.envelope import Envelope
from safeai_git.core.errors import FormatError, LogProofInvalid
from safeai_git.core.log.checkpoint import OpenedCheckpoint
from safeai_git.core.log.entry import Entry, completed
from safeai_git.core.log.merkle import leaf_hash
from safeai_git.core.log.note import MAX_BYTES, NoteKey
from safeai_git.core.log.proof import LogProof, verify_proof
from safeai_git.core.trust import Verify

START = b'{"envelope":"'
"""What the line of a receipt begins with, and that of no envelope."""

LONGEST = 4 * MAX_BYTES

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Receipt(Struct, frozen=True):
    """A receipt that nobody has checked yet.

    Attributes:
        envelope: The envelope's digest.
        proof: The log's proof.
    """

    envelope: str
    proof: LogProof

    def format(self) -> bytes:
        """Write it as one line."""
        return canonical.dumps({"envelope": self.envelope, "proof": self.proof.format().decode()})

    @classmethod
    def parse(cls, line: bytes) -> Receipt:
        """Read a line, the inverse of `format`.

        Raises:
            FormatError: It is no receipt, or not written the one way.
        """
        match canonical.loads(line, limit=LONGEST):
            case {"envelope": str(digest), "proof": str(proof), **rest} if not rest and _DIGEST.fullmatch(
                digest
            ):
                found = cls(digest, LogProof.parse(proof.encode("utf-8", "replace")))
            case _:
                raise FormatError("the line is no receipt")
        if found.format() != line:
            raise FormatError("the receipt is not written the one way")
        return found


class Logged(Struct, frozen=True):
    """An envelope that a trusted log holds. Only `check_receipt` makes one.

    Attributes:
        index: The entry's place.
        time: When the log took it, as it stands there (RFC 3339).
        checkpoint: The signed checkpoint that says so.
    """

    index: int
    time: str
    checkpoint: OpenedCheckpoint


def check_receipt(receipt: Receipt, envelope: Envelope, keys: Iterable[NoteKey], verify: Verify) -> Logged:
    """Check that a log holds an envelope.

    The entry is put together from the envelope at hand; of what came with the proof only the entry's head is used, and
    the hash says whether it is the right one.

    Args:
        receipt: What the Governor gave.
        envelope: What was submitted.
        keys: The log's keys, all of one name.
        verify: The check of one signature.

    Raises:
        FormatError: The receipt is not one.
        LogProofInvalid: It proves nothing about this envelope.
    """
    if receipt.envelope != envelope.digest:
        raise LogProofInvalid(
            f"the receipt is about envelope {receipt.envelope[:16]}, not {envelope.digest[:16]}"
        )
    return check_entry(receipt.proof, f"sha256:{envelope.digest}", envelope.format(), keys, verify)


def check_entry(proof: LogProof, key: str, body: bytes, keys: Iterable[NoteKey], verify: Verify) -> Logged:
    """Check that a log holds an entry around a body that the caller has.

    Args:
        proof: What the Governor gave.
        key: The entry's id.
        body: The JSON of the entry's last member.
        keys: The log's keys, all of one name.
        verify: The check of one signature.

    Raises:
        FormatError: What came with the proof is no head of an entry.
        LogProofInvalid: It proves nothing about this entry.
    """
    known = tuple(keys)
    if proof.extra is None:
        raise LogProofInvalid("the receipt lacks the entry's head")
    line = completed(proof.extra, body)
    entry = Entry.parse(line)
    if entry.id != key or entry.seq != proof.index:
        raise LogProofInvalid(f"the receipt's entry {entry.seq} is about something else")
    opened = verify_proof(proof, leaf_hash(line), known[0].name, known, verify)
    return Logged(entry.seq, entry.time, opened)
