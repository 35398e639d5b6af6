"""What is kept of 65,536 entries of a log, so that a start need not read them: the records of ``audit.index``.

A record is built from the entries themselves, always in the same way, and has a fixed size in blocks of 8 KiB: 256 of leaf
hashes, one of the roots of those 256 tiles, one of the offsets of every 64th entry, one of bits that say which entries
change keys, policy or kill switches, one of how many ids each of 4,096 shards has, then the ids' tags (24 bits each) and
their entries (16 bits each), shard by shard. Numbers are little-endian.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterator
from hashlib import blake2b
from math import isqrt

from safeai_git.core.log.merkle import HASH_BYTES
from safeai_git.core.log.tiles import tile_root

SEGMENT = 65_536
"""Entries of a record: a complete subtree of the log."""

EVERY = 64
"""The offset of every so many-th entry is remembered."""

BLOCK = 8_192
STATE_KINDS = (b"keychange", b"killswitch", b"policy")
"""Kinds of the entries that a start has to read, whatever their age."""

_SHARDS = 4_096
_TAG_BYTES = 3
_TAG = 0xFFFFFF
_ROOTS, _MARKS, _BITS, _COUNTS, _TAGS, _ENTRIES = 256, 257, 258, 259, 260, 284
BLOCKS = 300
"""Blocks of a record."""

RECORD = BLOCKS * BLOCK
PER_TILE = BLOCK // HASH_BYTES


def block_of_tile(tall: int, begin: int) -> int:
    """The block of the file that holds an element of a tile row: of leaves (0), or of roots of tiles of leaves (1)."""
    tile = begin // PER_TILE
    return tile * BLOCKS + _ROOTS if tall else tile // PER_TILE * BLOCKS + tile % PER_TILE


class Builder:
    """Builds a record from the entries of one segment, in their order.

    Args:
        salt: Of the ids.
    """

    def __init__(self, salt: bytes) -> None:
        self._begun = blake2b(digest_size=8, key=salt)
        self._leaves = bytearray()
        self._roots = bytearray()
        self._marks = array("Q")
        self._bits = bytearray(SEGMENT // 8)
        self._slots = array("Q")

    def __len__(self) -> int:
        return len(self._slots)

    def take(self, offset: int, kind: bytes, key: bytes, leaf: bytes) -> None:
        """Take the next entry: where its line begins, its kind, its id, its leaf's hash."""
        at = len(self._slots)
        if at % EVERY == 0:
            self._marks.append(offset)
        if kind in STATE_KINDS:
            self._bits[at >> 3] |= 1 << (at & 7)
        begun = self._begun.copy()
        begun.update(key)
        place = int.from_bytes(begun.digest(), "little")
        self._slots.append((place & (_SHARDS - 1)) << 40 | (place >> 40) << 16 | at)
        self._leaves += leaf
        if len(self._leaves) % BLOCK == 0:
            self._roots += tile_root(bytes(self._leaves[-BLOCK:]))

    def record(self) -> bytes:
        """The record, of a whole segment."""
        if len(self) != SEGMENT:
            raise ValueError(f"a record is made of {SEGMENT} entries, not {len(self)}")
        slots = sorted(self._slots)
        counts = array("H", bytes(2 * _SHARDS))
        for slot in slots:
            counts[slot >> 40] += 1
        tags = bytearray(_TAG_BYTES * SEGMENT)
        wide = _little(array("I", [slot >> 16 & _TAG for slot in slots]))
        for at in range(_TAG_BYTES):
            tags[at::_TAG_BYTES] = wide[at::4]
        entries = array("H", [slot & 0xFFFF for slot in slots])
        parts = (self._leaves, self._roots, _little(self._marks), self._bits)
        return b"".join((*parts, _little(counts), tags, _little(entries)))


def roots_of(record: bytes) -> bytes:
    """The roots of a record's tiles of leaves."""
    return record[_ROOTS * BLOCK : _MARKS * BLOCK]


def marks_of(record: bytes) -> array[int]:
    """The offsets of every 64th entry."""
    return _numbers("Q", record[_MARKS * BLOCK : _BITS * BLOCK])


def bits_of(record: bytes) -> bytes:
    """Which entries are of `STATE_KINDS`, a bit each."""
    return record[_BITS * BLOCK : _COUNTS * BLOCK]


def set_bits(bits: bytes, first: int) -> Iterator[int]:
    """The entries that bits stand for, from entry `first` on."""
    for at, byte in enumerate(bits):
        if byte:
            yield from (first + 8 * at + bit for bit in range(8) if byte >> bit & 1)


class SealedIds:
    """The ids of sealed segments, three bytes each: where an entry with an id may be (compare `Ids`).

    Args:
        block: Reads a block of the file, which holds the rest.
    """

    def __init__(self, block: Callable[[int], bytes]) -> None:
        self._block = block
        self._tags: list[bytearray] = []
        self._used = array("Q", bytes(8 * _SHARDS))
        self._counts: list[array[int]] = []
        self.expect(1)

    def expect(self, segments: int) -> None:
        """Make room for so many segments, in an empty set: shards that grow bit by bit tear the memory to pieces."""
        ids = segments * SEGMENT // _SHARDS
        self._tags = [bytearray(_TAG_BYTES * (ids + 5 * isqrt(ids))) for _ in range(_SHARDS)]

    def add(self, record: bytes) -> None:
        """Take in the next segment's, which is in the file; others may look meanwhile."""
        counts = _numbers("H", record[_COUNTS * BLOCK : _TAGS * BLOCK])
        if sum(counts) != SEGMENT:
            raise ValueError("the record of a segment does not count its ids")
        tags = memoryview(record)[_TAGS * BLOCK : _ENTRIES * BLOCK]
        self._counts.append(counts)  # before the tags: they are found as soon as they are there
        at = 0
        for shard, count in enumerate(counts):
            end, used = at + count, self._used[shard]
            there, more = self._tags[shard], tags[_TAG_BYTES * at : _TAG_BYTES * end]
            if used + len(more) > len(there):
                there += bytes(len(more) + len(there) // 8)
            there[used : used + len(more)] = more
            self._used[shard] = used + len(more)
            at = end

    def at(self, place: int) -> list[int]:
        """The entries that an id's place may stand for.

        Raises:
            LogFailed: The file cannot be read, or was changed.
        """
        shard, tag = place & (_SHARDS - 1), (place >> 40).to_bytes(_TAG_BYTES, "little")
        tags, end, found = self._tags[shard], self._used[shard], []
        at = tags.find(tag, 0, end)
        while at >= 0:
            if at % _TAG_BYTES == 0:
                found.append(self._entry(shard, at // _TAG_BYTES))
            at = tags.find(tag, at + 1, end)
        return found

    def _entry(self, shard: int, number: int) -> int:
        """The entry of the shard's nth id."""
        for segment, counts in enumerate(self._counts):
            if number < counts[shard]:
                at = 2 * (sum(counts[:shard]) + number)
                block = self._block(segment * BLOCKS + _ENTRIES + at // BLOCK)
                return segment * SEGMENT + int.from_bytes(block[at % BLOCK : at % BLOCK + 2], "little")
            number -= counts[shard]
        raise LookupError("an id of no segment")


def _numbers(code: str, data: bytes) -> array[int]:
    found = array(code)
    found.frombytes(data)
    if sys.byteorder == "big":
        found.byteswap()
    return found


def _little(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()
