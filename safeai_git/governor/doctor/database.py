"""The log in PostgreSQL: reachable, its tables up to date, durable, and leading to its newest checkpoint. Read-only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg

from safeai_git.core.display import count
from safeai_git.core.errors import FormatError, LogProofInvalid, StorageError
from safeai_git.core.log.checkpoint import open_checkpoint
from safeai_git.core.log.merkle import Frontier
from safeai_git.governor.doctor.case import Case
from safeai_git.governor.doctor.report import Examined, of_error
from safeai_git.governor.stores.postgres_address import parts_of
from safeai_git.governor.stores.postgres_reading import connected
from safeai_git.governor.stores.postgres_schema import MIGRATIONS
from safeai_git.keys.ed25519 import verify

_MOST_SKEW = 30.0
_TLS = frozenset({"verify-full", "verify-ca"})
_NAME = "database"


def examine(case: Case) -> Iterator[Examined]:
    """Look at the database, if the log is in one."""
    url = case.settings.database_url
    if not url:
        return
    with connected(url) as connection:
        try:
            yield from _server(case, connection, url)
            yield from _log(case, connection)
        except psycopg.Error as error:
            yield Examined(
                _NAME,
                "unknown",
                f"it refused to be asked: {str(error).strip().splitlines()[0]}",
                "grant the Governor's role SELECT on the log's tables",
            )


def _one(connection: psycopg.Connection[Any], query: str, *arguments: object) -> Any:
    row = connection.execute(query.encode(), arguments or None).fetchone()
    return row[0] if row else None


def _server(case: Case, connection: psycopg.Connection[Any], url: str) -> Iterator[Examined]:
    host = connection.info.host
    yield Examined(_NAME, "ok", f"PostgreSQL {_one(connection, 'SHOW server_version')} at {host} answers")
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        value = _one(connection, f"SHOW {setting}")
        if value == "off":
            yield Examined(
                _NAME,
                "bad",
                f"{setting} is off: it would lose what was acknowledged",
                f"set {setting} = on in postgresql.conf, or stop a pooler from setting it",
            )
    if _one(connection, "SELECT pg_is_in_recovery()"):
        yield Examined(
            _NAME,
            "bad",
            f"{host} is a replica, which nobody can write",
            "name the primary in SAFEAI_DATABASE_URL",
        )
    skew = float(_one(connection, "SELECT extract(epoch FROM clock_timestamp())")) - case.now
    if abs(skew) > _MOST_SKEW:
        yield Examined(
            "clock",
            "warn",
            f"the database's clock differs by {skew:+.0f} seconds from this machine's",
            "set both by NTP: replicas order entries by the latest time that any of them had",
        )
    if not host.startswith("/") and parts_of(url).get("sslmode", "prefer") not in _TLS:
        yield Examined(
            _NAME,
            "warn",
            "whoever is on the way can pretend to be the database (sslmode is not verify-full)",
            "add ?sslmode=verify-full&sslrootcert=FILE to SAFEAI_DATABASE_URL",
        )


def _log(case: Case, connection: psycopg.Connection[Any]) -> Iterator[Examined]:
    if _one(connection, "SELECT to_regclass('audit_schema')") is None:
        yield Examined(_NAME, "bad", "it has no tables of the log", "safeai db upgrade")
        return
    version = _one(connection, "SELECT coalesce(max(version), 0) FROM audit_schema")
    if version != len(MIGRATIONS):
        yield Examined(
            _NAME,
            "bad" if version < len(MIGRATIONS) else "warn",
            f"its tables are of version {version}, and this program's are of {len(MIGRATIONS)}",
            "safeai db upgrade"
            if version < len(MIGRATIONS)
            else "a newer Governor was here: upgrade this one",
        )
    origin = case.settings.log_origin
    if not origin:
        yield Examined(
            "log",
            "bad",
            "SAFEAI_DATABASE_URL needs SAFEAI_LOG_ORIGIN: all replicas have to agree on the log's name",
            "set it to a name such as governor.example/safeai, and never change it",
        )
        return
    case.origin = origin
    # Before the head: who appends meanwhile only moves that one on.
    note = _one(
        connection,
        "SELECT note FROM audit_checkpoint WHERE log_id = %s ORDER BY size DESC LIMIT 1",
        origin,
    )
    row = connection.execute(
        "SELECT size, root, edge, moment FROM audit_head WHERE log_id = %s", (origin,)
    ).fetchone()
    if row is None or not row[0]:
        yield Examined("log", "ok", f"none yet of the name {origin}: the first start begins it")
        return
    size, root, edge, moment = row
    case.last = moment / 1000
    governors = _one(
        connection, "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^safeai [0-9]+$'"
    )
    case.running = governors > 0
    yield Examined(
        "log",
        "ok",
        f"{count(size, 'entry', 'entries')} of {origin}; {count(governors, 'connection')} of Governors",
    )
    if Frontier(size, [bytes(one) for one in edge]).root() != bytes(root):
        yield Examined("log", "bad", "its head contradicts itself: somebody wrote it by hand", _COMPARE)
    yield from _checkpoint(case, note, size, bytes(root))


_COMPARE = (
    "see 'Fork detected' in docs/deploy/runbooks.md; compare it with a checkpoint that was kept elsewhere"
)


def _checkpoint(case: Case, note: Any, size: int, root: bytes) -> Iterator[Examined]:
    if note is None or not case.log_keys:
        yield Examined(
            "checkpoint",
            "bad" if note is None else "unknown",
            "no checkpoint was kept" if note is None else "the Governor's key comes first",
        )
        return
    try:
        newest = open_checkpoint(bytes(note), case.origin, case.log_keys, verify).checkpoint
    except (FormatError, LogProofInvalid) as error:
        yield of_error("checkpoint", error)
        return
    case.size = newest.size
    if newest.size > size or (newest.size == size and newest.root != root):
        yield Examined(
            "checkpoint",
            "bad",
            f"the newest is over {newest.size:,} entries, and the database's {size:,} do not lead to it",
            _COMPARE,
        )
    elif newest.size < size and not case.running:
        yield Examined(
            "checkpoint",
            "warn",
            f"{count(size - newest.size, 'entry', 'entries')} stand behind the newest one",
            "the next start signs them",
        )
    else:
        yield Examined(
            "checkpoint", "ok", f"signed by the Governor's key over {count(newest.size, 'entry', 'entries')}"
        )


# Ranges of the primary key, whose collation is "C": ';' is the character behind ':'.
_GOVERNING = """
    SELECT e.body FROM audit_idem i JOIN audit_entry e ON e.log_id = i.log_id AND e.idx = i.idx
    WHERE i.log_id = %s AND (i.key >= 'key:' AND i.key < 'key;' OR i.key >= 'revoke:' AND i.key < 'revoke;'
        OR i.key >= 'policy:' AND i.key < 'policy;' OR i.key >= 'killswitch:' AND i.key < 'killswitch;')
    ORDER BY i.idx"""


def governing_entries(case: Case) -> list[bytes]:
    """The entries about keys, policy and kill switches, found by the ids that they have.

    Raises:
        StorageError: The database does not answer.
    """
    with connected(case.settings.database_url) as connection:
        try:
            return [bytes(row[0]) for row in connection.execute(_GOVERNING.encode(), (case.origin,))]
        except psycopg.Error as error:
            raise StorageError(f"the entries cannot be read: {str(error).strip().splitlines()[0]}") from None
