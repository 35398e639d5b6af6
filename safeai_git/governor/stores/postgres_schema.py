"""The tables of the log in PostgreSQL, and how they come to be; running it twice, or twice at once, changes nothing."""

from __future__ import annotations

import psycopg

from safeai_git.core.errors import StorageError
from safeai_git.governor.stores.postgres_address import parts_of

LOCK = 0x5AFEA1
"""Of the migrations; it has nothing to do with correctness of the log."""

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE audit_head (
        log_id text PRIMARY KEY, size bigint NOT NULL, root bytea NOT NULL, edge bytea[] NOT NULL,
        prev bytea NOT NULL, moment bigint NOT NULL, updated timestamptz NOT NULL DEFAULT now());
    CREATE TABLE audit_entry (
        log_id text NOT NULL, idx bigint NOT NULL, leaf bytea NOT NULL, body bytea NOT NULL,
        PRIMARY KEY (log_id, idx));
    CREATE TABLE audit_idem (
        log_id text NOT NULL, key text COLLATE "C" NOT NULL, idx bigint NOT NULL, PRIMARY KEY (log_id, key));
    CREATE TABLE audit_checkpoint (
        log_id text NOT NULL, size bigint NOT NULL, note bytea NOT NULL, PRIMARY KEY (log_id, size));
    """,
)


def upgrade(url: str) -> int:
    """Bring a database up to date; the number of migrations that were run.

    Raises:
        StorageError: The database cannot be reached, or refused.
    """
    parts_of(url)
    try:
        return _upgrade(url)
    except psycopg.Error as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StorageError(f"the database could not be brought up to date: {reason}") from error


def _upgrade(url: str) -> int:
    with psycopg.connect(url) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        connection.execute("CREATE TABLE IF NOT EXISTS audit_schema (version int PRIMARY KEY)")
        row = connection.execute("SELECT coalesce(max(version), 0) FROM audit_schema").fetchone()
        done = int(row[0]) if row else 0
        for version, statements in enumerate(MIGRATIONS[done:], done + 1):
            connection.execute(statements.encode())
            connection.execute("INSERT INTO audit_schema VALUES (%s)", (version,))
    return len(MIGRATIONS) - done
