"""The store that keeps a log in memory: for tests, the demo and documentation. Gone when the process ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from safeai_git.core.log.entry import Draft
from safeai_git.governor.stores.port import Appended
from safeai_git.governor.stores.state import State


class MemoryStore:
    """A `Store` without a disk."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._published: bytes | None = None
        self._state = State(self.entry)

    @property
    def size(self) -> int:
        """How many entries there are."""
        return len(self._lines)

    @property
    def published(self) -> bytes | None:
        """The note of the newest checkpoint."""
        return self._published

    def append(self, drafts: Sequence[Draft], now: int) -> Appended:
        """Give each draft a place."""
        planned = self._state.plan(drafts, now)
        self._lines += planned.lines
        return self._state.apply(planned)

    def publish(self, note: bytes, size: int) -> None:  # noqa: ARG002 - the port's
        """Keep a checkpoint."""
        self._published = note

    def remember(self) -> None:
        """There is no second place."""

    def entry(self, index: int) -> bytes:
        """The exact bytes of an entry."""
        if not 0 <= index < len(self._lines):
            raise LookupError(f"the log has no entry {index}")
        return self._lines[index]

    def read(self, first: int, most: int) -> list[bytes]:
        """Entries from `first` on."""
        return self._lines[first : min(first + most, self._state.head.frontier.size)]

    def tail(self) -> tuple[int, str]:
        """Where the log ends."""
        head = self._state.head
        return head.frontier.size, head.prev

    @property
    def unheld(self) -> int:
        """None."""
        return 0

    def older(self) -> None:
        """Nothing is known but by reading."""

    def watch(self, wake: Callable[[], None]) -> None:
        """Nobody else appends."""

    def find(self, key: str) -> int | None:
        """The place of the entry with an id."""
        return self._state.index_of(key)

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree."""
        return self._state.hashes.node(level, index)

    def root(self) -> bytes:
        """The root of the tree."""
        return self._state.head.frontier.root()

    def close(self) -> None:
        """Nothing is open."""
