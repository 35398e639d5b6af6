"""The search index: which entries of the log are about what, in a SQLite file that can be thrown away at any time.

It holds no entry, only places: what a search finds is read from the log. Missing, damaged, ahead of the log or of
another one, it is made anew; behind, it catches up. Each Governor has its own, also where several share a log: so it
never has to agree with anybody. Memory is bounded by SQLite's cache, answers by a deadline.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from safeai_git.core.errors import DeadlinePassed, StorageError
from safeai_git.core.key_list import KeyBook
from safeai_git.core.log import base64
from safeai_git.core.log.entry import Entry, parse_time
from safeai_git.core.log.merkle import leaf_hash
from safeai_git.governor.audit_log import AuditLog
from safeai_git.governor.follower import StartOver
from safeai_git.governor.subjects import subjects

FILE, LOCK = "search.sqlite", "search.lock"

VERSION = 1
"""Of the tables and of what is looked up in entries; another one is made anew."""

DEADLINE_SECONDS = 2.0

_CACHE_KIB = 8_192
_MOST_KNOWN = 10_000
_SCHEMA = """
CREATE TABLE about (version INTEGER, origin TEXT, size INTEGER, prev TEXT);
CREATE TABLE term (id INTEGER PRIMARY KEY, field TEXT, value TEXT, count INTEGER, UNIQUE (field, value));
CREATE TABLE post (term INTEGER, idx INTEGER, PRIMARY KEY (term, idx)) WITHOUT ROWID;
CREATE TABLE moment (idx INTEGER PRIMARY KEY, time INTEGER);
"""


@dataclass(frozen=True, slots=True)
class Span:
    """Where to look.

    Attributes:
        first, end: Entries, `end` itself not.
        since, until: Milliseconds since 1970, `until` itself not; ``None`` for no limit.
    """

    first: int = 0
    end: int = 2**62
    since: int | None = None
    until: int | None = None


class SearchIndex:
    """An index beside a log; a `follower.Follows`.

    Args:
        folder: Where to keep it.
        log: The log.
        origin: Its name.
        keys: Whose signatures are whose.

    Attributes:
        on_damage: Called when the index has to be made anew; whoever feeds it begins at the first entry then.
        made_anew: How often that happened.
    """

    def __init__(self, folder: Path, log: AuditLog, origin: str, keys: KeyBook) -> None:
        self._log = log
        self._origin = origin
        self._keys = keys
        self._own: tempfile.TemporaryDirectory[str] | None = None
        self._lock = _locked(folder)
        if self._lock < 0:  # another process has it, or nothing can be written there
            self._own = tempfile.TemporaryDirectory(prefix="safeai-search-")
            folder = Path(self._own.name)
        self._path = folder / FILE
        self._ids: dict[tuple[str, str], int] = {}
        self._damaged = threading.Event()
        self._writing: sqlite3.Connection | None = None
        self.made_anew = 0
        self.on_damage: Callable[[], None] = lambda: None
        try:
            self.position = self._at_a_place()
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise _unusable(self._path, error) from error

    def _at_a_place(self) -> tuple[int, str]:
        """Open or make the index; where its folder takes none, a full disk for instance, in a temporary one."""
        try:
            return self._opened() or self._anew()
        except (sqlite3.Error, OSError):
            if self._own is not None:
                raise
            self._own = tempfile.TemporaryDirectory(prefix="safeai-search-")
            self._path = Path(self._own.name) / FILE
            return self._anew()

    def _opened(self) -> tuple[int, str] | None:
        """Where the index that is there ends; ``None`` where there is none of this log."""
        if not self._path.exists():
            return None
        try:
            self._writing = _connected(self._path)
            row = self._writing.execute("SELECT version, origin, size, prev FROM about").fetchone()
        except sqlite3.DatabaseError:
            return None
        if row is None or row[:2] != (VERSION, self._origin):
            return None
        size, prev = row[2], row[3]
        if not isinstance(size, int) or not 0 <= size <= self._log.store.tail()[0]:
            return None
        there = base64.encode(leaf_hash(self._log.store.entry(size - 1))) if size else ""
        return (size, prev) if prev == there else None

    def _anew(self) -> tuple[int, str]:
        if self._writing is not None:
            self._writing.close()
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        self._ids.clear()
        self._writing = _connected(self._path)
        self._writing.executescript(_SCHEMA)
        self._writing.execute("INSERT INTO about VALUES (?, ?, 0, '')", (VERSION, self._origin))
        self.made_anew += 1
        self._damaged.clear()
        return 0, ""

    def take(self, first: int, lines: Sequence[bytes]) -> None:
        """Take entries in; see `follower.Follows`.

        Raises:
            StartOver: The index was damaged, and is empty now.
            StorageError: It cannot be written.
        """
        try:
            if self._damaged.is_set():
                self._anew()
                raise StartOver
            self._write(first, lines)
        except sqlite3.DatabaseError as error:
            self._give_up()
            if not _passes(error):
                with suppress(sqlite3.Error, OSError):
                    self._anew()
                    raise StartOver from None
            raise _unusable(self._path, error) from error

    def _give_up(self) -> None:
        self._ids.clear()
        if self._writing is not None:
            with suppress(sqlite3.Error):
                self._writing.execute("ROLLBACK")

    def _write(self, first: int, lines: Sequence[bytes]) -> None:
        writing = self._writing
        if writing is None:
            raise StorageError("the search index is closed")
        writing.execute("BEGIN IMMEDIATE")
        posts: list[tuple[int, int]] = []
        times: list[tuple[int, int]] = []
        for index, line in enumerate(lines, first):
            entry = Entry.parse(line)
            times.append((index, parse_time(entry.time)))
            posts += [(self._term(writing, *one), index) for one in subjects(entry, self._keys)]
        writing.executemany("INSERT INTO moment VALUES (?, ?)", times)
        writing.executemany("INSERT INTO post VALUES (?, ?)", posts)
        counts = Counter(term for term, _ in posts)
        rows = [(count, term) for term, count in counts.items()]
        writing.executemany("UPDATE term SET count = count + ? WHERE id = ?", rows)
        end = first + len(lines)
        writing.execute("UPDATE about SET size = ?, prev = ?", (end, base64.encode(leaf_hash(lines[-1]))))
        writing.execute("COMMIT")

    def _term(self, writing: sqlite3.Connection, field: str, value: str) -> int:
        known = self._ids.get((field, value))
        if known is None:
            writing.execute("INSERT INTO term VALUES (NULL, ?, ?, 0) ON CONFLICT DO NOTHING", (field, value))
            row = writing.execute("SELECT id FROM term WHERE field = ? AND value = ?", (field, value))
            known = int(row.fetchone()[0])
            if len(self._ids) >= _MOST_KNOWN:
                self._ids.clear()
            self._ids[field, value] = known
        return known

    def find(self, wanted: Sequence[tuple[str, str]], span: Span, most: int) -> list[int]:
        """Places of entries, the newest first.

        Args:
            wanted: Field and value; an entry has to be about all of them.
            span: Where to look.
            most: How many.

        Raises:
            DeadlinePassed: It takes too long.
            StorageError: The index is damaged, and is being made anew.
        """
        made = self.made_anew
        try:
            with self._reading() as reading:
                return _found(reading, wanted, span, most)
        except sqlite3.DatabaseError as error:
            if _code(error) == sqlite3.SQLITE_INTERRUPT:
                raise DeadlinePassed(
                    f"the search took more than {DEADLINE_SECONDS:g} seconds",
                    hint="ask for a shorter time, or for something rarer",
                ) from None
            if made == self.made_anew and not _passes(error):
                self.report_damage()
            raise _unusable(self._path, error) from error

    def report_damage(self) -> None:
        """What the index says is not what the log holds: make it anew."""
        if not self._damaged.is_set():
            self._damaged.set()
            self.on_damage()

    @property
    def damaged(self) -> bool:
        """Whether it is about to be made anew."""
        return self._damaged.is_set()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own for each search: the file may have been replaced since the last one."""
        end = time.monotonic() + DEADLINE_SECONDS
        with closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)) as reading:
            reading.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            reading.set_progress_handler(lambda: time.monotonic() > end, 10_000)
            yield reading

    def close(self) -> None:
        """Close the file; its follower has been closed before."""
        if self._writing is not None:
            self._writing.close()
            self._writing = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        if self._own is not None:
            self._own.cleanup()


def _found(
    reading: sqlite3.Connection, wanted: Sequence[tuple[str, str]], span: Span, most: int
) -> list[int]:
    (size,) = _row(reading.execute("SELECT size FROM about"))
    first, end = max(span.first, 0), min(span.end, size)
    if span.since is not None:
        first = max(first, _place(reading, size, span.since))
    if span.until is not None:
        end = min(end, _place(reading, size, span.until))
    terms: list[tuple[int, int]] = []
    for one in wanted:
        row = reading.execute("SELECT count, id FROM term WHERE field = ? AND value = ?", one).fetchone()
        if row is None:
            return []
        terms.append(row)
    if not terms:
        return list(range(end - 1, max(first, end - most) - 1, -1))
    rarest, *others = [term for _, term in sorted(set(terms))]
    also = " AND EXISTS (SELECT 1 FROM post o WHERE o.term = ? AND o.idx = p.idx)" * len(others)
    query = f"SELECT p.idx FROM post p WHERE p.term = ? AND p.idx >= ? AND p.idx < ?{also} ORDER BY p.idx DESC LIMIT ?"  # noqa: S608 - nothing foreign is in it
    return [row[0] for row in reading.execute(query, (rarest, first, end, *others, most))]


def _place(reading: sqlite3.Connection, size: int, moment: int) -> int:
    """The first entry that is not older than a moment: the log's time never goes back."""
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        (found,) = _row(reading.execute("SELECT time FROM moment WHERE idx = ?", (middle,)))
        low, high = (middle + 1, high) if found < moment else (low, middle)
    return low


def _row(found: sqlite3.Cursor) -> tuple[int]:
    row = found.fetchone()
    if row is None or not isinstance(row[0], int):
        raise sqlite3.DatabaseError("a row is missing")
    return (row[0],)


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code (sqlite.org, rescode.html); errors of Python's own module have none."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _passes(error: sqlite3.Error) -> bool:
    """Whether the file is not to blame: somebody else has it, or the disk is full or does not answer."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute("PRAGMA journal_size_limit = 16777216")
    return connection


def _locked(folder: Path) -> int:
    """The descriptor of the index's lock; -1 where it cannot be had."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return -1
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return -1
    return lock


def _unusable(path: Path, error: Exception) -> StorageError:
    return StorageError(
        f"the search index {path} cannot be used: {error}", hint="it is made anew; try again in a moment"
    )
