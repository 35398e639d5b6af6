"""What a witness signs, in the Ed25519 form (C2SP tlog-cosignature, "cosignature/v1").

It means: at that time this was the largest consistent tree that I saw under this origin.
"""

from __future__ import annotations

from msgspec import Struct

from safeai_git.core.errors import FormatError

MAX_TIME = 2**63 - 1


class Cosignature(Struct, frozen=True):
    """A cosignature as it stands in a note.

    Attributes:
        time: Unix time in seconds.
        signature: The 64 bytes of the Ed25519 signature over `message`.
    """

    time: int
    signature: bytes

    def format(self) -> bytes:
        """The bytes that follow the key id in the note: eight of the time, then the signature."""
        return self.time.to_bytes(8, "big") + self.signature

    @classmethod
    def parse(cls, body: bytes) -> Cosignature:
        """The inverse of `format`.

        Raises:
            FormatError: Not 72 bytes, or a time beyond 63 bits.
        """
        if len(body) != 72:
            raise FormatError(f"a cosignature has 72 bytes, not {len(body)}")
        time = int.from_bytes(body[:8], "big")
        if time > MAX_TIME:
            raise FormatError("a cosignature's time has more than 63 bits")
        return cls(time, body[8:])


def message(text: str, time: int) -> bytes:
    """The bytes that a witness signs.

    Args:
        text: The whole text of the checkpoint's note, with its final newline.
        time: Unix time in seconds.
    """
    return f"cosignature/v1\ntime {time}\n{text}".encode()
