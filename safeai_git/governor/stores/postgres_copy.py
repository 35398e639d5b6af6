"""A log from a file into PostgreSQL, and back: the same lines, byte for byte.

What goes in was verified whole, and goes in as one transaction: all of it or nothing. What comes out ends with the newest
checkpoint and is verified before it gets its name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg

from safeai_git.audit import Anchor, Progress, chunks, verify_file
from safeai_git.core.errors import LogProofInvalid, StorageError, WrongUse
from safeai_git.core.log.chain import Chain, is_commit, lines_of
from safeai_git.core.log.entry import parse_commit, parse_time
from safeai_git.core.log.merkle import EMPTY_ROOT
from safeai_git.core.log.note import NoteKey
from safeai_git.core.publickey import PublicKey
from safeai_git.files import sync_folder
from safeai_git.governor.stores.port import covered
from safeai_git.governor.stores.postgres import OPTIONS, PostgresStore, insert_entries
from safeai_git.governor.stores.postgres_address import parts_of
from safeai_git.keys.ed25519 import verify

_AT_ONCE = 1_000


def import_log(
    url: str,
    path: Path,
    keys: Sequence[NoteKey | PublicKey],
    anchors: Sequence[Anchor] = (),
    *,
    progress: Progress | None = None,
) -> tuple[str, int]:
    """Put a log into a database that holds nothing of it yet.

    Args:
        url: The database, whose tables `upgrade` has made.
        path: The log.
        keys: Its keys, from a source that is trusted.
        anchors: Checkpoints that it must agree with.
        progress: Told now and then while it is verified.

    Returns:
        The log's origin, and how many entries went in.

    Raises:
        WrongUse: The log's key is not known, or the database holds entries of this log.
        LogProofInvalid: The log is not in order.
        StorageError: The file cannot be read, or the database not be written; nothing went in.
    """
    parts_of(url)
    report = verify_file(path, keys=keys, anchors=anchors, progress=progress)
    if report.keys_claimed:
        raise WrongUse(
            f"nobody but {path} itself says which key it is signed with",
            hint="name the log's key: --key FILE",
        )
    if report.state != "consistent":
        raise LogProofInvalid(
            f"{path} is not in order: {report.faults[0]}", hint=f"run 'safeai audit --verify {path}'"
        )
    chain = Chain(report.origin, report.keys, verify)
    try:
        with psycopg.connect(url, options=OPTIONS, connect_timeout=5) as connection:
            _take_place(connection, report.origin)
            _insert(connection, chain, path)
    except psycopg.Error as error:
        raise StorageError(
            f"the log could not be put into the database: {str(error).strip().splitlines()[0]}",
            hint="'safeai db upgrade' makes its tables; nothing of the log went in",
        ) from error
    return report.origin, chain.size


def _take_place(connection: psycopg.Connection[Any], origin: str) -> None:
    connection.execute(
        "INSERT INTO audit_head (log_id, size, root, edge, prev, moment) VALUES (%s, 0, %s, '{}', '', 0) "
        "ON CONFLICT DO NOTHING",
        (origin, EMPTY_ROOT),
    )
    row = connection.execute("SELECT size FROM audit_head WHERE log_id = %s FOR UPDATE", (origin,)).fetchone()
    if row is None or row[0]:
        raise WrongUse(
            f"the database holds {row[0] if row else 0:,} entries of the log {origin} already",
            hint="a log is put into a database once, before a Governor writes there",
        )


def _insert(connection: psycopg.Connection[Any], chain: Chain, path: Path) -> None:
    ids: list[str] = []
    lines: list[bytes] = []
    leaves: list[bytes] = []
    leaf = b""

    def flush() -> None:
        insert_entries(connection, chain.origin, ids, lines, leaves, chain.size - len(lines))
        for waiting in (ids, lines, leaves):
            waiting.clear()

    for line in lines_of(chunks(path, None)):
        if is_commit(line.data):
            chain.commit(line.data)
            connection.execute(
                "INSERT INTO audit_checkpoint (log_id, size, note) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                (chain.origin, chain.size, parse_commit(line.data)),
            )
            continue
        _, key, leaf = chain.entry(line.data)
        ids.append(key)
        lines.append(line.data)
        leaves.append(leaf)
        if len(lines) == _AT_ONCE:
            flush()
    flush()
    frontier = chain.frontier
    connection.execute(
        "UPDATE audit_head SET size = %s, root = %s, edge = %s, prev = %s, moment = %s, updated = now() "
        "WHERE log_id = %s AND size = 0",
        (frontier.size, frontier.root(), frontier.edge, leaf, parse_time(chain.time), chain.origin),
    )


def export_log(url: str, origin: str, to: Path, keys: Sequence[NoteKey | PublicKey]) -> tuple[str, int]:
    """Write a log out of a database into a new file, up to its newest checkpoint.

    Args:
        url: The database.
        origin: Which log; empty where there is only one.
        to: The file.
        keys: The log's keys; without any the log's own word is taken.

    Returns:
        The log's origin, and how many entries were written.

    Raises:
        WrongUse: The file is there already, or there is no such log.
        LogProofInvalid: What came out is not in order.
        StorageError: The database cannot be read, or the file not be written; no half file is left.
    """
    if to.exists():
        raise WrongUse(f"{to} is there already", hint="name a new file")
    store = PostgresStore(url, _only(url, origin))
    part = to.with_name(to.name + ".part")
    try:
        with part.open("wb") as target:
            target.writelines(line + b"\n" for line in _up_to_checkpoint(store))
            target.flush()
            os.fsync(target.fileno())
        report = verify_file(part, keys=keys)
        if report.state != "consistent":
            raise LogProofInvalid(f"the log in the database is not in order: {report.faults[0]}")
        part.rename(to)
        sync_folder(to.parent)
    except OSError as error:
        raise StorageError(f"{to} cannot be written: {error.strerror or error}") from error
    finally:
        store.close()
        with suppress(OSError):
            part.unlink()
    return report.origin, report.size


def _only(url: str, origin: str) -> str:
    parts_of(url)
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            rows = connection.execute(
                "SELECT log_id FROM audit_head WHERE size > 0 ORDER BY log_id"
            ).fetchall()
    except psycopg.Error as error:
        raise StorageError(f"the database cannot be read: {str(error).strip().splitlines()[0]}") from error
    names = [str(row[0]) for row in rows]
    if origin in names or (not origin and len(names) == 1):
        return origin or names[0]
    raise WrongUse(
        f"the database holds {'no log ' + origin if origin else f'{len(names)} logs'}",
        hint=f"name one of them: --origin {' | '.join(names[:5])}" if names else "",
    )


def _up_to_checkpoint(store: PostgresStore) -> Iterator[bytes]:
    note = store.published
    end = covered(note)
    seen = 0
    for line in store.lines():
        if seen == end and not is_commit(line):
            return
        seen += not is_commit(line)
        yield line
