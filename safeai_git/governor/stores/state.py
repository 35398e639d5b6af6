"""What a store with a single writer holds in memory: the head, the hashes for proofs, and where each id is.

Some 33 bytes an entry for the hashes and 13 for the ids. Nothing here touches a disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from safeai_git.core.log import base64
from safeai_git.core.log.entry import Draft, Entry, format_time
from safeai_git.core.log.hashes import Hashes
from safeai_git.core.log.ids import Ids
from safeai_git.core.log.merkle import Frontier, leaf_hash
from safeai_git.governor.stores.port import Appended, Barred, Conflict, Outcome, Placed


@dataclass(slots=True)
class Head:
    """Where a log ends.

    Attributes:
        frontier: The tree's edge.
        prev: Base64 of the last entry's leaf hash; empty before the first.
        time: The last entry's time in Unix milliseconds.
    """

    frontier: Frontier = field(default_factory=Frontier)
    prev: str = ""
    time: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """A batch with its places, before anything is written."""

    outcomes: tuple[Outcome, ...]
    lines: tuple[bytes, ...]
    leaves: tuple[bytes, ...]
    ids: tuple[str, ...]
    after: Head


Find = Callable[[str], Entry | None]
"""The entry with an id, if there is one."""


def plan(head: Head, drafts: Sequence[Draft], now: int, find: Find) -> Plan:
    """Give each draft its place behind a head. Changes nothing."""
    outcomes: list[Outcome] = []
    lines: list[bytes] = []
    leaves: list[bytes] = []
    fresh: dict[str, tuple[int, Draft]] = {}
    frontier, prev = head.frontier.copy(), head.prev
    moment = max(now, head.time)
    time, skew = format_time(moment), min(now - head.time, 0)
    for draft in drafts:
        if draft.id in fresh:
            index, first = fresh[draft.id]
            outcomes.append(Placed(index, repeated=True) if first.rest == draft.rest else Conflict(index))
            continue
        if (there := find(draft.id)) is not None:
            same = there.rest == draft.rest
            outcomes.append(Placed(there.seq, repeated=True) if same else Conflict(there.seq))
            continue
        if (bar := _bar(draft, fresh, find)) is not None:
            outcomes.append(Barred(bar))
            continue
        index = frontier.size
        line = draft.format(index, prev, time, skew)
        leaf = leaf_hash(line)
        frontier.append(leaf)
        prev = base64.encode(leaf)
        lines.append(line)
        leaves.append(leaf)
        fresh[draft.id] = (index, draft)
        outcomes.append(Placed(index))
    after = Head(frontier, prev, moment) if lines else head
    return Plan(tuple(outcomes), tuple(lines), tuple(leaves), tuple(fresh), after)


def _bar(draft: Draft, fresh: Mapping[str, tuple[int, Draft]], find: Find) -> int | None:
    """The place of an entry that keeps a draft out."""
    for key in draft.unless:
        if key in fresh:
            return fresh[key][0]
        if (there := find(key)) is not None:
            return there.seq
    return None


class State:
    """The state of a log that one process appends to.

    Args:
        entry: Reads the bytes of an entry that was taken in.
        salt: Of the ids; a new one if not said.
    """

    def __init__(self, entry: Callable[[int], bytes], salt: bytes | None = None) -> None:
        self.head = Head()
        self.hashes = Hashes()
        self._ids = Ids(salt or os.urandom(16))
        self._places: dict[str, int] = {}
        self._entry = entry

    def find(self, key: str) -> Entry | None:
        """The entry with an id. For the thread that appends: see `remember`."""
        place = self._places[key] = self._ids.place(key)
        return self._at(place, key)

    def index_of(self, key: str) -> int | None:
        """The place of the entry with an id; any thread may ask."""
        found = self._at(self._ids.place(key), key)
        return None if found is None else found.seq

    def _at(self, place: int, key: str) -> Entry | None:
        for index in self.candidates(place):
            entry = Entry.parse(self._entry(index))
            if entry.id == key:
                return entry
        return None

    def candidates(self, place: int) -> list[int]:
        """The entries that an id's place may stand for."""
        return self._ids.at(place)

    def remember(self, key: str, leaf: bytes, index: int) -> None:
        """Take in an entry's hash and id, which was looked for before; the head is the caller's to move."""
        self.hashes.append(leaf)
        self._ids.put(self._places.pop(key), index)

    def plan(self, drafts: Sequence[Draft], now: int) -> Plan:
        """Give each draft its place."""
        return plan(self.head, drafts, now, self.find)

    def apply(self, planned: Plan) -> Appended:
        """Take a plan in, once it is durable."""
        before = self.head.frontier
        self.head = planned.after
        for at, (key, leaf) in enumerate(zip(planned.ids, planned.leaves, strict=True)):
            self.remember(key, leaf, before.size + at)
        self._places.clear()
        after = self.head.frontier
        return Appended(planned.outcomes, before, planned.lines, planned.leaves, after.size, after.root())
