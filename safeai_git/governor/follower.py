"""Follows the log: hands every entry, once and in order, to whoever keeps something that follows from them.

Entries come from the store, whoever appended them, and are held against the chain: each must carry the hash of the one
before, and the last must be the one that the store says the log ends with. What does not fit ends the following, for
good: nothing is ever derived from a log that contradicts itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Protocol

from safeai_git.core.errors import LogProofInvalid, SafeAIError, StorageError
from safeai_git.core.log import base64
from safeai_git.core.log.entry import taken_apart
from safeai_git.core.log.merkle import leaf_hash
from safeai_git.governor.audit_log import AuditLog

AT_ONCE = 500
"""Entries that are read in one go: 32 MB if all of them are as long as can be."""

EVERY_SECONDS = 0.8
"""How long it takes at most to see an entry of another Governor that nobody told us of."""


class StartOver(Exception):
    """Whoever takes entries in has lost what it had: it needs them from the first one on."""


class Follows(Protocol):
    """What takes entries in."""

    def take(self, first: int, lines: Sequence[bytes]) -> None:
        """Take the entries from `first` on, in order; what was taken comes again only after `StartOver`."""


class Follower:
    """Keeps one `Follows` up to date.

    Args:
        log: An open log.
        follows: Whom to hand entries.
        position: How many entries it has taken already, and base64 of the last one's leaf hash.
        name: Of the thread.
        rest: Seconds that the thread lets pass before it looks again, so that under load it takes many entries at a time.
            Whoever needs them sooner calls `catch_up`.
    """

    def __init__(
        self,
        log: AuditLog,
        follows: Follows,
        *,
        position: tuple[int, str] = (0, ""),
        name: str,
        rest: float = 0.0,
    ) -> None:
        self._store = log.store
        self._follows = follows
        self._size, self._prev = position
        self._rest = rest
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._broken: LogProofInvalid | None = None
        self._error: SafeAIError | None = None
        self._fresh = float("-inf")
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        log.watch(self._wake.set)

    @property
    def failure(self) -> SafeAIError | None:
        """Why it is not up to date, or ``None``."""
        return self._broken or self._error

    @property
    def size(self) -> int:
        """How many entries were taken in."""
        return self._size

    def start(self) -> None:
        """Go on following in a thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop; call it before the log is closed."""
        self._ended.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def catch_up(self) -> None:
        """Take in everything that the log holds now.

        Raises:
            StorageError: It cannot be read.
            LogProofInvalid: Entries do not follow from each other, or some are gone.
        """
        with self._lock:
            if self._broken is not None:
                raise self._broken
            try:
                self._catch_up()
            except LogProofInvalid as broken:
                self._broken = broken
                raise
            except SafeAIError as error:
                self._error = error
                raise
            self._error, self._fresh = None, time.monotonic()

    def start_over(self) -> None:
        """Hand out everything from the first entry on, in the thread."""
        with self._lock:
            self._size, self._prev = 0, ""
        self._wake.set()

    def is_fresh(self, seconds: float) -> bool:
        """Whether `need` would do without looking."""
        return self._broken is None and time.monotonic() - self._fresh <= seconds

    def need(self, seconds: float) -> None:
        """Be no older than some seconds; raises as `catch_up` does."""
        if not self.is_fresh(seconds):
            self.catch_up()

    def _catch_up(self) -> None:
        size, prev = self._store.tail()
        if size < self._size:
            raise LogProofInvalid(
                f"the log ends at entry {size}, and this Governor has seen {self._size}: it was rolled back"
            )
        while self._size < size and not self._ended.is_set():
            first = self._size
            lines = self._store.read(first, min(AT_ONCE, size - first))
            if not lines:
                raise LogProofInvalid(f"entry {first} is gone from the log")
            hashed = self._prev
            for index, line in enumerate(lines, first):
                found = taken_apart(line)
                if found[1] != b"%d" % index or found[2] != hashed.encode():
                    raise LogProofInvalid(f"entry {index} does not follow from the entry before it")
                hashed = base64.encode(leaf_hash(line))
            if first + len(lines) == size and hashed != prev:
                raise LogProofInvalid(f"the log's last entry, {size - 1}, is not the one that it ends with")
            try:
                self._follows.take(first, lines)
            except StartOver:
                self._size, self._prev = 0, ""
                continue
            self._size, self._prev = first + len(lines), hashed
        if not self._ended.is_set() and self._prev != prev:
            raise LogProofInvalid(f"the log's last entry, {size - 1}, is another one than before")

    def _run(self) -> None:
        while not self._ended.is_set():
            self._wake.wait(EVERY_SECONDS)
            if self._rest:
                self._ended.wait(self._rest)
            self._wake.clear()
            if self._ended.is_set():
                return
            try:
                self.catch_up()
            except LogProofInvalid:
                return
            except SafeAIError:
                continue
            except Exception as fault:  # noqa: BLE001 - a thread that dies in silence would go on telling old news
                self._error = StorageError(f"a fault of the program: {type(fault).__name__}: {fault}")
