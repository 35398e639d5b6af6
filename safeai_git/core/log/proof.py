"""Receipts: C2SP tlog-proof, by which anybody can check offline that a log holds an entry (``.tlog-proof``)."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from safeai_git.core.errors import FormatError, LogProofInvalid
from safeai_git.core.log import base64, merkle
from safeai_git.core.log.checkpoint import OpenedCheckpoint, open_checkpoint, parse_number
from safeai_git.core.log.note import MAX_BYTES, NoteKey
from safeai_git.core.log.policy import WitnessPolicy
from safeai_git.core.trust import Verify

HEADER = "c2sp.org/tlog-proof@v1"
MAX_PATH = 63


class LogProof(Struct, frozen=True):
    """A proof that nobody has checked yet.

    Attributes:
        index: The entry's place in the log, from 0.
        path: Hashes from the leaf's sibling up to the root's child; at most 63.
        checkpoint: The signed note, verbatim.
        extra: Bytes that nothing vouches for; ``None`` when there is no such line.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def format(self) -> bytes:
        """Write the proof."""
        lines = [HEADER]
        if self.extra is not None:
            lines.append(f"extra {base64.encode(self.extra)}")
        lines += [f"index {self.index}", *(base64.encode(one) for one in self.path), "", ""]
        return "\n".join(lines).encode() + self.checkpoint

    @classmethod
    def parse(cls, data: bytes) -> LogProof:
        """Read a proof, the inverse of `format`.

        Raises:
            FormatError: Not a proof, or not written the one way.
        """
        if len(data) > 2 * MAX_BYTES:
            raise FormatError(f"a proof of {len(data):,} bytes is not read")
        head, gap, checkpoint = data.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise FormatError("not a tlog-proof: it does not begin with ASCII lines") from None
        if not gap or lines[0] != HEADER:
            raise FormatError(f"not a tlog-proof: the first line is not {HEADER}")
        at, extra = 1, None
        if lines[at : at + 1] and lines[at].startswith("extra "):
            extra = base64.decode(lines[at].removeprefix("extra "), "a proof's extra data")
            at += 1
        if at >= len(lines) or not lines[at].startswith("index "):
            raise FormatError("not a tlog-proof: the index is missing")
        index = parse_number(lines[at].removeprefix("index "), "a proof's index")
        hashes = lines[at + 1 :]
        if len(hashes) > MAX_PATH:
            raise FormatError(f"a proof has at most {MAX_PATH} hashes, not {len(hashes)}")
        path = tuple(base64.decode_hash(one, "a hash of a proof") for one in hashes)
        return cls(index, path, checkpoint, extra)


def verify_proof(
    proof: LogProof,
    leaf: bytes,
    origin: str,
    keys: Iterable[NoteKey],
    verify: Verify,
    *,
    witnesses: WitnessPolicy | None = None,
) -> OpenedCheckpoint:
    """Check that a log holds an entry.

    Args:
        proof: The receipt.
        leaf: The hash of the entry that the caller holds; never one that came with the proof.
        origin: The log that the caller trusts.
        keys: Its keys.
        verify: The check of one Ed25519 signature.
        witnesses: Whose cosignatures are wanted on top.

    Returns:
        The log's checkpoint, which the caller should remember.

    Raises:
        FormatError: The checkpoint is not one.
        LogProofInvalid: It is not proven.
    """
    known = [*keys, *(witnesses.witness_keys() if witnesses else ())]
    opened = open_checkpoint(proof.checkpoint, origin, known, verify)
    if witnesses is not None and not witnesses.is_met_by(opened.signers):
        raise LogProofInvalid(
            f"the checkpoint of {origin} at size {opened.checkpoint.size} lacks cosignatures that the policy wants"
        )
    merkle.verify_inclusion(leaf, proof.index, opened.checkpoint.size, proof.path, opened.checkpoint.root)
    return opened
