"""The port that every store of the log stands behind.

A store gives entries their places and keeps them. Its one promise: what `append` returned is durable, whole, and never
placed a second time. It signs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from safeai_git.core.errors import StorageError
from safeai_git.core.log.checkpoint import Checkpoint
from safeai_git.core.log.entry import Draft
from safeai_git.core.log.merkle import Frontier
from safeai_git.core.log.note import Note


class LogFailed(StorageError):
    """The log takes nothing any more until the process is started again; what was acknowledged is safe."""


class LogFull(StorageError):
    """Too little space is left, or too many are waiting; trying later may help, and nothing was written."""


class LogAway(StorageError):
    """The store does not answer. Whether the entries are in shows when they are submitted again, under the same ids."""


@dataclass(frozen=True, slots=True)
class Placed:
    """An entry is in the log.

    Attributes:
        index: Its place, from 0.
        repeated: It was there before: the same id and the same body.
    """

    index: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Conflict:
    """Another body is in the log under the same id; nothing was written for this one."""

    index: int


@dataclass(frozen=True, slots=True)
class Barred(Conflict):
    """An entry is in the log, at `index`, that keeps this one out (`Draft.unless`); nothing was written for it."""


Outcome = Placed | Conflict


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of a batch.

    Attributes:
        outcomes: One for each draft, in their order.
        before: The tree's edge before the new entries.
        lines: The new entries' bytes.
        leaves: Their leaf hashes.
        size: The tree's size now; also counts entries of others, where several append.
        root: Its root.
    """

    outcomes: tuple[Outcome, ...]
    before: Frontier
    lines: tuple[bytes, ...]
    leaves: tuple[bytes, ...]
    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Older:
    """Entries of which a start knows what they amount to.

    Attributes:
        size: How many.
        prev: Base64 of the last one's leaf hash.
        changing: Those that change keys, policy or kill switches, in order: they have to be read.
    """

    size: int
    prev: str
    changing: Callable[[], Iterator[int]]


def covered(note: bytes | None) -> int:
    """How many entries a checkpoint of our own covers; none where there is no checkpoint."""
    return Checkpoint.parse(Note.parse(note).text).size if note else 0


class Store(Protocol):
    """A store of one log. Used by one thread at a time, except for what only reads."""

    @property
    def size(self) -> int:
        """How many entries there are."""

    @property
    def unheld(self) -> int:
        """How many entries a start took for granted, and nobody has read since."""

    @property
    def published(self) -> bytes | None:
        """The note of the newest checkpoint that was published."""

    def append(self, drafts: Sequence[Draft], now: int) -> Appended:
        """Give each draft a place; durable when this returns.

        Args:
            drafts: What is to be logged. One whose id is in the log, or stands here twice, is not written again.
                One that an entry of the log keeps out (`Draft.unless`) is not written either.
            now: Unix time in milliseconds. The log's time never goes back: where this is behind the last entry's, that
                one's time is written with the difference beside it.

        Raises:
            LogFull: There is no room; nothing was written.
            LogAway: The store does not answer.
            LogFailed: It could not be made durable. Whether the entries are there shows after a restart.
        """

    def publish(self, note: bytes, size: int) -> None:
        """Keep a checkpoint over entries that are durable.

        Raises:
            LogFailed: It could not be written.
        """

    def remember(self) -> None:
        """Keep the newest published checkpoint in a second place, off the path of any request; about once a second.

        Raises:
            StorageError: It could not be kept; the log itself is not concerned.
        """

    def entry(self, index: int) -> bytes:
        """The exact bytes of an entry.

        Raises:
            LookupError: There is none.
            LogFailed: It cannot be read.
        """

    def read(self, first: int, most: int) -> list[bytes]:
        """The exact bytes of up to `most` entries from `first` on, in order; none where the log ends before.

        Raises:
            LogFailed, LogAway: They cannot be read.
        """

    def tail(self) -> tuple[int, str]:
        """How many entries there are now, those of others included, and base64 of the last one's leaf hash."""

    def older(self) -> Older | None:
        """The part of the log that was not read at the start, since what it amounts to is known; ``None`` for none."""

    def watch(self, wake: Callable[[], None]) -> None:
        """Have `wake` called, from any thread, soon after somebody else appended what all must know at once."""

    def find(self, key: str) -> int | None:
        """The place of the entry with an id; ``None`` where there is none.

        Raises:
            LogFailed: It cannot be looked for.
        """

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree (`safeai_git.core.log.merkle.Nodes`).

        Raises:
            LookupError: The log is not that large.
        """

    def root(self) -> bytes:
        """The root of the tree of the present size."""

    def close(self) -> None:
        """Let go of what is open. What was published is kept where a later start will look for it."""
