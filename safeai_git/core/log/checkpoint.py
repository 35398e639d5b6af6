"""Checkpoints (C2SP tlog-checkpoint): the signed statement of a log's size and root.

A log must never sign two that contradict each other. Opening one is the only way to a `Checkpoint` that means something.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from safeai_git.core.errors import FormatError, LogProofInvalid
from safeai_git.core.log import base64
from safeai_git.core.log.note import ED25519, Note, NoteKey
from safeai_git.core.trust import Verify

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


def parse_number(text: str, what: str) -> int:
    """Read a decimal without leading zeroes, up to 2^63 - 1.

    Raises:
        FormatError: Written otherwise.
    """
    if not _SIZE.fullmatch(text) or int(text) >= 2**63:
        raise FormatError(f"{what} is a decimal number without leading zeroes, not {text[:40]!a}")
    return int(text)


class Checkpoint(Struct, frozen=True):
    """A size and a root, claimed by a log.

    Attributes:
        origin: The log's name, which must never change.
        size: Number of entries.
        root: The 32 bytes of the tree's root.
        extensions: Opaque lines, none of ours.

    Raises:
        FormatError: Something that a checkpoint cannot say.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.origin or "\n" in self.origin:
            raise FormatError("a checkpoint's origin is one line that is not empty")
        if not 0 <= self.size < 2**63 or len(self.root) != 32:
            raise FormatError("a checkpoint's size has at most 63 bits and its root 32 bytes")
        if any(not line or "\n" in line for line in self.extensions):
            raise FormatError("a checkpoint's extension lines are not empty")

    def format(self) -> str:
        """The text that is signed."""
        lines = [self.origin, str(self.size), base64.encode(self.root), *self.extensions]
        return "\n".join(lines) + "\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """The inverse of `format`.

        Raises:
            FormatError: Not a checkpoint.
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1]:
            raise FormatError("a checkpoint has an origin, a size and a root, each on a line of its own")
        return cls(
            lines[0],
            parse_number(lines[1], "a checkpoint's size"),
            base64.decode_hash(lines[2], "a checkpoint's root"),
            tuple(lines[3:-1]),
        )


class OpenedCheckpoint(Struct, frozen=True):
    """A checkpoint that its log has signed. Only `open_checkpoint` makes one.

    Attributes:
        checkpoint: What it says.
        note: The note, verbatim.
        signers: The known keys whose signatures hold, the log's and those of witnesses.
    """

    checkpoint: Checkpoint
    note: bytes
    signers: tuple[NoteKey, ...]


def open_checkpoint(data: bytes, origin: str, keys: Iterable[NoteKey], verify: Verify) -> OpenedCheckpoint:
    """Read a checkpoint and check that the log signed it.

    Args:
        data: The note.
        origin: The log that it must be of.
        keys: The log's keys, named like the origin, and those of witnesses.
        verify: The check of one Ed25519 signature.

    Raises:
        FormatError: Not a checkpoint.
        LogProofInvalid: Of another log, not signed by this one or only with a key that is not believed that far, or with
            a known key's signature that does not hold.
    """
    note = Note.parse(data)
    checkpoint = Checkpoint.parse(note.text)
    if checkpoint.origin != origin:
        raise LogProofInvalid(f"the checkpoint is of the log {checkpoint.origin[:120]!a}, not of {origin}")
    signers = note.check(keys, verify)
    own = [one for one in signers if one.algorithm == ED25519 and one.name == origin]
    if own and not any(one.believed_about(checkpoint.size) for one in own):
        raise LogProofInvalid(
            f"the checkpoint of {origin} at size {checkpoint.size} is signed with the former key {own[0].id.hex()} alone, "
            f"which counts up to size {own[0].until}"
        )
    if not own:
        raise LogProofInvalid(
            f"the checkpoint of {origin} at size {checkpoint.size} is not signed by a key of that log"
        )
    return OpenedCheckpoint(checkpoint, data, signers)
