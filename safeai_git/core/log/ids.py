"""A set of idempotency keys in some 13 bytes each: where an entry with that id may be.

Open addressing over 64-bit slots in 1,024 shards, so that growing one is short. It answers with candidates: whoever asks
reads the entry and compares, since two ids can share the 32 bits that are kept.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from hashlib import blake2b

SHARDS = 1024
MOST = 2**32 - 1
"""Entries that it can point at."""

_FIRST_SLOTS = 16


class Ids:
    """Ids and the places of their entries.

    Args:
        salt: Up to 64 random bytes, so that nobody can choose ids that collide.
    """

    def __init__(self, salt: bytes = b"") -> None:
        self._salt = salt
        self._slots = [array("Q", bytes(8 * _FIRST_SLOTS)) for _ in range(SHARDS)]
        self._used = [0] * SHARDS

    def __len__(self) -> int:
        return sum(self._used)

    def add(self, key: str, index: int) -> None:
        """Note that the entry `index` has an id.

        Raises:
            ValueError: The index has more than 32 bits.
        """
        if not 0 <= index < MOST:
            raise ValueError(f"no more than {MOST:,} entries can be looked up by id")
        shard, tag = self._place(key)
        if 3 * self._used[shard] >= 2 * len(self._slots[shard]):
            self._grow(shard)
        _put(self._slots[shard], tag << 32 | (index + 1))
        self._used[shard] += 1

    def find(self, key: str) -> Iterator[int]:
        """The places at which an entry with this id may be."""
        shard, tag = self._place(key)
        slots = self._slots[shard]
        mask = len(slots) - 1
        at = tag & mask
        while slot := slots[at]:
            if slot >> 32 == tag:
                yield (slot & 0xFFFFFFFF) - 1
            at = (at + 1) & mask

    def _place(self, key: str) -> tuple[int, int]:
        number = int.from_bytes(blake2b(key.encode(), digest_size=8, key=self._salt).digest(), "little")
        return number & (SHARDS - 1), number >> 32

    def _grow(self, shard: int) -> None:
        old = self._slots[shard]
        new = array("Q", bytes(16 * len(old)))
        for slot in old:
            if slot:
                _put(new, slot)
        self._slots[shard] = new


def _put(slots: array[int], slot: int) -> None:
    mask = len(slots) - 1
    at = (slot >> 32) & mask
    while slots[at]:
        at = (at + 1) & mask
    slots[at] = slot
