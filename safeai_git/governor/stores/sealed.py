"""The state of a log whose older part lies in ``audit.index``: what `State` holds in memory, of the newer part only."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterable

from safeai_git.core.errors import LogProofInvalid
from safeai_git.core.log.hashes import Hashes
from safeai_git.core.log.ids import Ids
from safeai_git.core.log.merkle import HASH_BYTES, leaf_hash, root
from safeai_git.core.log.tiles import HEIGHT, node_in, tile_root
from safeai_git.governor.stores.index_file import IndexFile
from safeai_git.governor.stores.segments import (
    BLOCK,
    PER_TILE,
    SEGMENT,
    SealedIds,
    bits_of,
    block_of_tile,
    marks_of,
    roots_of,
)
from safeai_git.governor.stores.state import State


class SealedHashes(Hashes):
    """Hashes of which the two lowest rows of sealed segments lie in a file.

    Args:
        index: The file.
    """

    def __init__(self, index: IndexFile) -> None:
        super().__init__()
        self._rows.append(bytearray())
        self._index = index
        self._sealed = 0
        self._lock = threading.Lock()

    def append(self, leaf: bytes, level: int = 0) -> None:
        """Add a leaf's hash."""
        with self._lock:
            super().append(leaf, level)

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree."""
        tall, within = divmod(level, HEIGHT)
        if tall > 1:
            return super().node(level, index)
        begin = index << within
        with self._lock:
            sealed = self._sealed >> (HEIGHT * tall)
            if begin >= sealed:
                return super().node(level, index - (sealed >> within))
        if index < 0:
            raise LookupError(f"the log has no subtree ({level}, {index})")
        at = begin % PER_TILE * HASH_BYTES
        data = self._index.block(block_of_tile(tall, begin))
        return node_in(data[at : at + (HASH_BYTES << within)], within, 0)

    def leaves(self, first: int, count: int) -> bytes:
        """The hashes of sealed leaves, one after the other; all of one tile."""
        at = first % PER_TILE * HASH_BYTES
        return self._index.block(block_of_tile(0, first))[at : at + count * HASH_BYTES]

    def adopt(self, roots: bytes) -> None:
        """A segment is in the file that was never in memory."""
        with self._lock:
            self._sealed += SEGMENT
            super().append(tile_root(roots), 2)

    def begins_with(self, roots: bytes) -> bool:
        """Whether the oldest segment in memory has these roots of tiles."""
        with self._lock:
            return self._rows[1][:BLOCK] == roots

    def seal(self) -> None:
        """The oldest segment in memory is in the file now."""
        with self._lock:
            del self._rows[0][: SEGMENT * HASH_BYTES]
            del self._rows[1][:BLOCK]
            self._sealed += SEGMENT


class SealedState(State):
    """A state with an index.

    Args:
        entry: Reads the bytes of an entry that was taken in.
        index: The file; what is in it already comes by `adopt`.
    """

    hashes: SealedHashes

    def __init__(self, entry: Callable[[int], bytes], index: IndexFile) -> None:
        super().__init__(entry, index.salt)
        self.hashes = SealedHashes(index)
        self.bits: list[bytes] = []
        self._salt = index.salt
        self._sealed = SealedIds(index.block)
        self._young: tuple[Ids, ...] = ()
        self._moving = threading.Lock()

    def adopt(self, records: Iterable[bytes], count: int, marks: array[int]) -> None:
        """Take in what the file holds, at a start: so many records, and the offsets in them."""
        self._sealed.expect(count)
        for record in records:
            marks.extend(marks_of(record))
            bits = bits_of(record)
            self.bits.append(bits if bits.strip(b"\x00") else b"")
            self._sealed.add(record)
            self.hashes.adopt(roots_of(record))

    def compare(self, record: bytes) -> None:
        """Hold a record, made of what the file holds, against the oldest segment in memory.

        Raises:
            LogProofInvalid: It is another one.
        """
        if not self.hashes.begins_with(roots_of(record)):
            raise LogProofInvalid("the log's file holds other entries than were written to it")

    def seal(self, record: bytes) -> None:
        """The oldest segment in memory is in the file now."""
        self._sealed.add(record)
        self.hashes.seal()
        with self._moving:
            self._young = self._young[1:]

    def remember(self, key: str, leaf: bytes, index: int) -> None:
        """Take in an entry's hash and id."""
        if index % SEGMENT == 0 or not self._young:
            with self._moving:
                self._young = (*self._young, Ids(self._salt))
        self.hashes.append(leaf)
        self._young[-1].put(self._places.pop(key), index)

    def candidates(self, place: int) -> list[int]:
        """The entries that an id's place may stand for."""
        young = self._young  # before those that are sealed: a segment that moves is in one of both
        return [index for ids in young for index in ids.at(place)] + self._sealed.at(place)

    def holds(self, first: int, lines: list[bytes]) -> bool:
        """Whether lines that were read are the entries from `first` on that were sealed."""
        at, leaves = 0, b"".join(map(leaf_hash, lines))
        while at < len(lines):
            count = min(PER_TILE - (first + at) % PER_TILE, len(lines) - at)
            part = leaves[at * HASH_BYTES : (at + count) * HASH_BYTES]
            if self.hashes.leaves(first + at, count) != part:
                return False
            at += count
        return True

    def root_of(self, size: int) -> bytes:
        """The root of the tree that the log had at a size."""
        return root(size, self.hashes.node)
