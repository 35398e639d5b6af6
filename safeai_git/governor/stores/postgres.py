"""The store that keeps a log in PostgreSQL, for any number of Governors at once: same bytes, same roots as the file.

Order comes from one row that a batch locks, safety from a compare-and-swap on it in the same transaction: no leader, no
session lock, so a pooler in transaction mode is fine. Durable when `append` returns. If a connection is lost, the batch
is tried again; the ids in the table say what became of it. Each Governor recomputes the tree from the leaves that it
sees, so that a database that was set back or changed is noticed before anything is signed over it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import psycopg

from safeai_git.core.errors import StorageError
from safeai_git.core.log import base64
from safeai_git.core.log.entry import Draft, Entry, format_commit
from safeai_git.core.log.hashes import Hashes
from safeai_git.core.log.merkle import EMPTY_ROOT, Frontier
from safeai_git.governor.stores.port import Appended, LogAway, LogFailed
from safeai_git.governor.stores.postgres_address import parts_of
from safeai_git.governor.stores.postgres_listen import CHANNEL, Listener
from safeai_git.governor.stores.state import Head, plan

OPTIONS = (
    "-c synchronous_commit=on -c lock_timeout=2000 -c statement_timeout=10000 "
    "-c idle_in_transaction_session_timeout=2000 -c timezone=UTC"
)
"""A Governor that is paused in the middle of a transaction loses its connection, and with it the lock."""

PATIENCE = 5.0
"""Seconds for which a batch is tried again."""

READ_AT_ONCE = 10_000

SPREAD = frozenset({"keychange", "killswitch", "policy"})
"""Kinds that the other Governors are told about at once. Not every batch: a notification is a lock that all of a
server's commits share."""

PASSING = (
    psycopg.OperationalError,
    psycopg.errors.SerializationFailure,
    psycopg.errors.IdleInTransactionSessionTimeout,
)
"""What another try can cure."""

T = TypeVar("T")


class PostgresStore:
    """A `Store` in a database whose tables `upgrade` has made.

    Args:
        url: How to connect.
        log_id: Which log; the log's origin.
        patience: Seconds for which a batch is tried again.

    Raises:
        StorageError: It cannot be reached, its tables are missing, or it would not keep what it acknowledged.
    """

    def __init__(self, url: str, log_id: str, *, patience: float = PATIENCE) -> None:
        self._url = url
        self._log_id = log_id
        self._patience = patience
        self._writing: psycopg.Connection[Any] | None = None
        self._reading: psycopg.Connection[Any] | None = None
        self._listeners: list[Listener] = []
        self._lock = threading.Lock()
        self._hashes = Hashes()
        self._frontier = Frontier()
        self._failed: LogFailed | None = None
        self._published: bytes | None = None
        parts_of(url)
        try:
            self._again(self._open)
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        connection = self._writer()
        for setting in ("fsync", "full_page_writes"):
            row = connection.execute(f"SHOW {setting}".encode()).fetchone()
            if row is None or row[0] != "on":
                raise StorageError(
                    f"the database runs with {setting} off and would lose what it acknowledged",
                    hint=f"set {setting} = on in postgresql.conf",
                )
        try:
            connection.execute(
                "INSERT INTO audit_head (log_id, size, root, edge, prev, moment) VALUES (%s, 0, %s, '{}', '', 0) "
                "ON CONFLICT DO NOTHING",
                (self._log_id, EMPTY_ROOT),
            )
        except psycopg.errors.UndefinedTable:
            raise StorageError(
                "the database has no tables of the log", hint="run 'safeai db upgrade' first"
            ) from None
        row = connection.execute(
            "SELECT note FROM audit_checkpoint WHERE log_id = %s ORDER BY size DESC LIMIT 1", (self._log_id,)
        ).fetchone()
        self._published = bytes(row[0]) if row else None
        self._catch_up(*self._head_now(connection))

    @property
    def size(self) -> int:
        """How many entries this Governor has seen."""
        return self._frontier.size

    @property
    def published(self) -> bytes | None:
        """The note of the newest checkpoint that this Governor published, or found when it started."""
        return self._published

    def append(self, drafts: Sequence[Draft], now: int) -> Appended:
        """Give each draft a place; committed when this returns."""
        if self._failed:
            raise self._failed
        appended = self._again(lambda: self._append(drafts, now))
        before = appended.before
        self._again(lambda: self._catch_up(before.size, before.root()))
        for leaf in appended.leaves:  # as the database gave them back
            self._hashes.append(leaf)
            self._frontier.append(leaf)
        if self._frontier.size != appended.size or self._frontier.root() != appended.root:
            raise self._fail("its entries do not lead to the root that was committed")
        return appended

    def _append(self, drafts: Sequence[Draft], now: int) -> Appended:
        connection = self._writer()
        with connection.transaction():
            row = connection.execute(
                "SELECT size, root, edge, prev, moment FROM audit_head WHERE log_id = %s FOR UPDATE",
                (self._log_id,),
            ).fetchone()
            if row is None:
                raise self._fail("its head is gone from the database")
            size, root, edge, prev, moment = row
            self._refuse_older(size, root)
            before = Frontier(size, [bytes(one) for one in edge])
            head = Head(before, base64.encode(bytes(prev)) if size else "", moment)
            planned = plan(head, drafts, now, self._known(connection, drafts).get)
            if planned.lines:
                stored = insert_entries(
                    connection, self._log_id, planned.ids, planned.lines, planned.leaves, size
                )
                if stored != [*planned.leaves]:
                    raise self._fail("the database does not keep what it is given")
                after = planned.after.frontier
                changed = connection.execute(
                    "UPDATE audit_head SET size = %s, root = %s, edge = %s, prev = %s, moment = %s, updated = now() "
                    "WHERE log_id = %s AND size = %s AND root = %s",
                    (
                        *(after.size, after.root(), after.edge, planned.leaves[-1], planned.after.time),
                        *(self._log_id, size, root),
                    ),
                )
                if changed.rowcount != 1:
                    raise self._fail("its head moved though it was locked")
                if any(draft.kind in SPREAD for draft in drafts):
                    connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, self._log_id))
        after = planned.after.frontier
        return Appended(planned.outcomes, before, planned.lines, planned.leaves, after.size, after.root())

    def _known(self, connection: psycopg.Connection[Any], drafts: Sequence[Draft]) -> dict[str, Entry]:
        """The entries that have one of the drafts' ids; mostly none.

        Each id is looked up by itself: asked with ``= ANY``, a server that has not counted a young table yet would
        read all ids of the log for every batch.
        """
        keys = [key for draft in drafts for key in (draft.id, *draft.unless)]
        rows = connection.execute(
            "SELECT entry.body FROM unnest(%b::text[]) AS asked(key) CROSS JOIN LATERAL "
            "(SELECT idx FROM audit_idem WHERE log_id = %s AND key = asked.key LIMIT 1) AS found LEFT JOIN LATERAL "
            "(SELECT body FROM audit_entry WHERE log_id = %s AND idx = found.idx LIMIT 1) AS entry ON true",
            (keys, self._log_id, self._log_id),
        ).fetchall()
        if any(body is None for (body,) in rows):
            raise self._fail("an entry is gone from the database, and its id is still there")
        return {entry.id: entry for entry in (Entry.parse(bytes(body)) for (body,) in rows)}

    def publish(self, note: bytes, size: int) -> None:
        """Keep a checkpoint; another Governor may have kept one of that size already.

        It becomes durable with the next batch, or within a second, as a commit line of the file does: nothing is lost with it
        that cannot be signed again. Said for this one transaction: a session's setting could reach another one by a pooler.
        """
        self._again(
            lambda: self._writer().execute(
                "WITH soon AS (SELECT set_config('synchronous_commit', 'off', true)) "
                "INSERT INTO audit_checkpoint (log_id, size, note) SELECT %s, %s, %s FROM soon ON CONFLICT DO NOTHING",
                (self._log_id, size, note),
            )
        )
        self._published = note

    def remember(self) -> None:
        """The database is the place; there is no second one."""

    def entry(self, index: int) -> bytes:
        """The exact bytes of an entry."""
        rows = self._read(
            "SELECT body FROM audit_entry WHERE log_id = %s AND idx = %s", (self._log_id, max(index, -1))
        )
        if not rows:
            raise LookupError(f"the log has no entry {index}")
        return bytes(rows[0][0])

    def read(self, first: int, most: int) -> list[bytes]:
        """Entries from `first` on."""
        rows = self._read(
            "SELECT body FROM audit_entry WHERE log_id = %s AND idx >= %s AND idx < %s ORDER BY idx",
            (self._log_id, first, first + most),
        )
        return [bytes(row[0]) for row in rows]

    def find(self, key: str) -> int | None:
        """The place of the entry with an id."""
        rows = self._read("SELECT idx FROM audit_idem WHERE log_id = %s AND key = %s", (self._log_id, key))
        return int(rows[0][0]) if rows else None

    def tail(self) -> tuple[int, str]:
        """Where the log ends, by whatever Governor."""
        rows = self._read("SELECT size, prev FROM audit_head WHERE log_id = %s", (self._log_id,))
        if not rows:
            raise LogFailed(f"the head of the log {self._log_id} is gone from the database")
        size, prev = rows[0]
        return size, base64.encode(bytes(prev)) if size else ""

    @property
    def unheld(self) -> int:
        """None."""
        return 0

    def older(self) -> None:
        """Nothing is known but by reading."""

    def watch(self, wake: Callable[[], None]) -> None:
        """Listen for what other Governors append of the kinds that spread at once."""
        self._listeners.append(Listener(self._url, self._log_id, wake))

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree."""
        return self._hashes.node(level, index)

    def root(self) -> bytes:
        """The root of the tree that this Governor has seen."""
        return self._frontier.root()

    def lines(self) -> Iterator[bytes]:
        """The log as the lines of ``audit.log``, without their newlines: entries, and the checkpoints that were kept."""
        size = self.size
        rows = self._read("SELECT size, note FROM audit_checkpoint WHERE log_id = %s", (self._log_id,))
        notes = {row[0]: bytes(row[1]) for row in rows}
        for begin in range(0, size, READ_AT_ONCE):
            for index, body in self._read(
                "SELECT idx, body FROM audit_entry WHERE log_id = %s AND idx >= %s AND idx < %s ORDER BY idx",
                (self._log_id, begin, min(size, begin + READ_AT_ONCE)),
            ):
                yield bytes(body)
                if index + 1 in notes:
                    yield format_commit(notes[index + 1])

    def close(self) -> None:
        """Close the connections."""
        for listener in self._listeners:
            listener.close()
        for connection in (self._writing, self._reading):
            if connection is not None:
                connection.close()
        self._writing = self._reading = None

    def _head_now(self, connection: psycopg.Connection[Any]) -> tuple[int, bytes]:
        row = connection.execute(
            "SELECT size, root FROM audit_head WHERE log_id = %s", (self._log_id,)
        ).fetchone()
        if row is None:
            raise self._fail("its head is gone from the database")
        return row[0], bytes(row[1])

    def _refuse_older(self, size: int, root: bytes) -> None:
        ours = self._frontier
        if size < ours.size or (size == ours.size and bytes(root) != ours.root()):
            raise self._fail(
                f"the database holds {size} entries with root {base64.encode(bytes(root))}; this Governor has seen "
                f"{ours.size} with root {base64.encode(ours.root())}: it was rolled back or changed"
            )

    def _catch_up(self, size: int, root: bytes) -> None:
        """Take in the leaves up to a committed size, ours and others', and recompute the root over them."""
        while self._frontier.size < size:
            rows = (
                self._writer()
                .execute(
                    "SELECT idx, leaf FROM audit_entry WHERE log_id = %s AND idx >= %s AND idx < %s ORDER BY idx",
                    (self._log_id, self._frontier.size, min(size, self._frontier.size + READ_AT_ONCE)),
                )
                .fetchall()
            )
            if not rows:
                raise self._fail(f"entry {self._frontier.size} is gone from the database")
            for index, leaf in rows:
                if index != self._frontier.size:
                    raise self._fail(f"entry {self._frontier.size} is gone from the database")
                self._hashes.append(bytes(leaf))
                self._frontier.append(bytes(leaf))
        if self._frontier.size == size and self._frontier.root() != root:
            raise self._fail(
                f"the entries up to {size} do not lead to the root that the database says they have"
            )

    def _fail(self, reason: str) -> LogFailed:
        self._failed = LogFailed(
            f"the log {self._log_id} takes nothing any more: {reason}",
            hint="nothing was signed over it; compare the database with a checkpoint that was kept elsewhere",
        )
        return self._failed

    def _writer(self) -> psycopg.Connection[Any]:
        if self._writing is None or self._writing.closed:
            self._writing = self._connected()
        return self._writing

    def _connected(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            self._url,
            autocommit=True,
            options=OPTIONS,
            application_name=f"safeai {os.getpid()}",
            connect_timeout=5,
            prepare_threshold=None,
        )

    def _read(self, query: str, arguments: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        def ask() -> list[tuple[Any, ...]]:
            with self._lock:
                if self._reading is None or self._reading.closed:
                    self._reading = self._connected()
                return self._reading.execute(query.encode(), arguments).fetchall()

        return self._again(ask)

    def _again(self, action: Callable[[], T]) -> T:
        """Try until it works: a lost connection, a lock that somebody holds too long, a server that restarts."""
        end = time.monotonic() + self._patience
        wait = 0.01
        while True:
            try:
                return action()
            except PASSING as error:
                if time.monotonic() >= end:
                    raise LogAway(
                        f"the database does not answer: {str(error).strip().splitlines()[0]}",
                        hint="submit again, under the same ids",
                    ) from error
                time.sleep(wait)
                wait = min(2 * wait, 0.5)
            except psycopg.Error as error:
                raise LogAway(f"the database refused: {str(error).strip().splitlines()[0]}") from error


def insert_entries(
    connection: psycopg.Connection[Any],
    log_id: str,
    ids: Sequence[str],
    lines: Sequence[bytes],
    leaves: Sequence[bytes],
    first: int,
) -> list[bytes]:
    """Place entries from `first` on, within the caller's transaction; their leaf hashes as the database keeps them.

    Arrays go over in binary (``%b``): as text each element is searched for what needs a backslash, on both sides.
    """
    places = list(range(first, first + len(lines)))
    rows = connection.execute(
        "WITH fresh AS (SELECT * FROM unnest(%b::text[], %b::bigint[], %b::bytea[], %b::bytea[]) AS f(key, idx, leaf, body)), "
        "entry AS (INSERT INTO audit_entry (log_id, idx, leaf, body) SELECT %s, idx, leaf, body FROM fresh RETURNING idx, leaf), "
        "idem AS (INSERT INTO audit_idem (log_id, key, idx) SELECT %s, key, idx FROM fresh) "
        "SELECT leaf FROM entry ORDER BY idx",
        (list(ids), places, list(leaves), list(lines), log_id, log_id),
    )
    return [bytes(row[0]) for row in rows]
