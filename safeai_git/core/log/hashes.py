"""All hashes that proofs about a log need, some 33 bytes an entry: the elements of its tiles, level by level."""

from __future__ import annotations

from safeai_git.core.log.merkle import HASH_BYTES
from safeai_git.core.log.tiles import HEIGHT, WIDTH, node_in, tile_root

_TILE_BYTES = WIDTH * HASH_BYTES


class Hashes:
    """The hashes of a growing tree."""

    def __init__(self) -> None:
        self._rows: list[bytearray] = [bytearray()]

    def append(self, leaf: bytes, level: int = 0) -> None:
        """Add a leaf's hash, or the hash of a whole tile to the row above it: `level` counts rows."""
        while True:
            while level >= len(self._rows):
                self._rows.append(bytearray())
            row = self._rows[level]
            row += leaf
            if len(row) % _TILE_BYTES:
                return
            leaf = tile_root(bytes(row[-_TILE_BYTES:]))
            level += 1

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree.

        Raises:
            LookupError: The tree is not that large.
        """
        tall, within = divmod(level, HEIGHT)
        begin, width = index << within, 1 << within
        row = self._rows[tall] if tall < len(self._rows) else b""
        part = bytes(row[begin * HASH_BYTES : (begin + width) * HASH_BYTES])
        if index < 0 or len(part) < width * HASH_BYTES:
            raise LookupError(f"the log has no subtree ({level}, {index})")
        return node_in(part, within, 0)
