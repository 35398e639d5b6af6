"""A set of idempotency keys in some 13 bytes each: where an entry with that id may be.

Open addressing over 64-bit slots in 1,024 shards, so that growing one is short. It answers with candidates: whoever asks
reads the entry and compares, since two ids can share the 32 bits that are kept.
"""

from __future__ import annotations

from array import array
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
        self._begun = blake2b(digest_size=8, key=salt)
        self._slots = [array("Q", bytes(8 * _FIRST_SLOTS)) for _ in range(SHARDS)]
        self._used = [0] * SHARDS

    def __len__(self) -> int:
        return sum(self._used)

    def place(self, key: str) -> int:
        """Where an id belongs in here, for `put` and `at`; good for the life of this set."""
        return self.place_of(key.encode())

    def place_of(self, key: bytes) -> int:
        """`place`, for an id as it stands in its entry."""
        begun = self._begun.copy()  # the salt is taken in once
        begun.update(key)
        return int.from_bytes(begun.digest(), "little")

    def add(self, key: str, index: int) -> None:
        """Note that the entry `index` has an id.

        Raises:
            ValueError: The index has more than 32 bits.
        """
        self.put(self.place(key), index)

    def find(self, key: str) -> list[int]:
        """The places at which an entry with this id may be."""
        return self.at(self.place(key))

    def put(self, place: int, index: int) -> None:
        """`add`, for an id whose place is known."""
        if not 0 <= index < MOST:
            raise ValueError(f"no more than {MOST:,} entries can be looked up by id")
        shard = place & (SHARDS - 1)
        slots = self._slots[shard]
        if 3 * self._used[shard] >= 2 * len(slots):
            slots = self._grow(shard)
        _put(slots, (place >> 32) << 32 | (index + 1))
        self._used[shard] += 1

    def at(self, place: int) -> list[int]:
        """`find`, for an id whose place is known."""
        slots, tag = self._slots[place & (SHARDS - 1)], place >> 32
        mask = len(slots) - 1
        at = tag & mask
        found = []
        while slot := slots[at]:
            if slot >> 32 == tag:
                found.append((slot & 0xFFFFFFFF) - 1)
            at = (at + 1) & mask
        return found

    def _grow(self, shard: int) -> array[int]:
        old = self._slots[shard]
        new = array("Q", bytes(16 * len(old)))
        for slot in old:
            if slot:
                _put(new, slot)
        self._slots[shard] = new
        return new


def _put(slots: array[int], slot: int) -> None:
    mask = len(slots) - 1
    at = (slot >> 32) & mask
    while slots[at]:
        at = (at + 1) & mask
    slots[at] = slot
