"""What a job prints: hashed and compressed whole, at hand as far as it is bounded."""

from __future__ import annotations

import hashlib
import zlib

KEPT_AT_EACH_END = 32 * 1024


class Output:
    """Takes pieces of output until a limit.

    ``total`` is the number of bytes taken, ``full`` whether there were more. The digest is over what was taken, and so
    is the log, where one is kept (`logged`).
    """

    def __init__(self, limit: int, *, logged: bool = True) -> None:
        self.total = 0
        self.full = False
        self._limit = limit
        self._digest = hashlib.sha256()
        self._head = bytearray()
        self._tail = bytearray()
        self._stream = zlib.compressobj(1) if logged else None
        self._log = bytearray()

    def take(self, piece: bytes) -> bytes:
        """Add a piece; gives back the part of it that fitted."""
        room = self._limit - self.total
        if len(piece) > room:
            self.full = True
            piece = piece[:room]
        self.total += len(piece)
        self._digest.update(piece)
        if self._stream is not None:
            self._log += self._stream.compress(piece)
        into_head = KEPT_AT_EACH_END - len(self._head)
        self._head += piece[:into_head]
        self._tail += piece[into_head:]
        del self._tail[:-KEPT_AT_EACH_END]
        return piece

    @property
    def sha256(self) -> str:
        """In hex."""
        return self._digest.hexdigest()

    def log(self) -> bytes:
        """All of it, as a zlib stream; empty where none is kept. Asked once, at the end."""
        return bytes(self._log) + (self._stream.flush() if self._stream is not None else b"")

    def text(self) -> bytes:
        """All of it, or its beginning and end with a line between that says how much is missing."""
        missing = self.total - len(self._head) - len(self._tail)
        middle = b"\n[%d bytes left out here]\n" % missing if missing else b""
        return bytes(self._head) + middle + bytes(self._tail)
