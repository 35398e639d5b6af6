"""The log that is forwarded, in its file or in PostgreSQL: its lines from a position on. Only ever read; nothing is verified here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import psycopg

from safeai_git.core.errors import LogProofInvalid, StorageError
from safeai_git.core.log.chain import Line, lines_of
from safeai_git.core.log.entry import format_commit
from safeai_git.core.log.merkle import leaf_hash
from safeai_git.governor.forward.cursor import Position
from safeai_git.governor.stores.postgres_reading import connected
from safeai_git.governor.stores.recovery import chunks

_PAGE = 500


class Source(Protocol):
    """A log that can be read from a position on."""

    def holds(self, position: Position) -> bool:
        """Whether the entry before the position is in its place. By the chain, so are then all before it.

        Raises:
            StorageError: The log cannot be read.
            LogProofInvalid: It is not, and looking elsewhere for it would not help.
        """

    def lines(self, position: Position) -> Iterator[Line]:
        """The lines from a position on, entries and commit lines, as far as there are any now.

        Raises:
            StorageError: The log cannot be read.
        """


class FileSource:
    """``audit.log``, or a copy of it.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def _open(self) -> int:
        """Each time anew: a file that was exchanged is noticed."""
        try:
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise StorageError(
                f"{self._path} cannot be read: {error.strerror or error}",
                hint="name the log, or set SAFEAI_DATA_DIR to its folder",
            ) from error

    def holds(self, position: Position) -> bool:
        """As `Source`; the file may hold the same entries elsewhere, with other commit lines between them."""
        if not position.next:
            return True
        descriptor = self._open()
        try:
            line = os.pread(descriptor, position.length, position.offset - position.length)
        except OSError as error:
            raise StorageError(f"{self._path} cannot be read: {error.strerror or error}") from error
        finally:
            os.close(descriptor)
        return line.endswith(b"\n") and leaf_hash(line[:-1]) == position.last

    def lines(self, position: Position) -> Iterator[Line]:
        """As `Source`."""
        descriptor = self._open()
        try:
            yield from lines_of(chunks(descriptor, position.offset), position.offset)
        except OSError as error:
            raise StorageError(f"{self._path} cannot be read: {error.strerror or error}") from error
        finally:
            os.close(descriptor)


class DatabaseSource:
    """A log in PostgreSQL, read in pages, in a session that can write nothing.

    Args:
        url: The database.
        origin: The log's name.
    """

    def __init__(self, url: str, origin: str) -> None:
        self._url = url
        self._origin = origin

    def __str__(self) -> str:
        return f"the log {self._origin} in PostgreSQL"

    def _rows(self, connection: psycopg.Connection[Any], query: str, *arguments: object) -> list[Any]:
        try:
            return connection.execute(query.encode(), (self._origin, *arguments)).fetchall()
        except psycopg.Error as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise StorageError(f"the database cannot be read: {reason}") from None

    def holds(self, position: Position) -> bool:
        """As `Source`."""
        if not position.next:
            return True
        with connected(self._url) as connection:
            rows = self._rows(
                connection,
                "SELECT body FROM audit_entry WHERE log_id = %s AND idx = %s",
                position.next - 1,
            )
        if not rows or leaf_hash(bytes(rows[0][0])) != position.last:
            raise LogProofInvalid(
                f"entry {position.next - 1} of {self} is {'another one' if rows else 'not there'}, and it was forwarded: "
                "the database was set back, or changed",
                hint="see 'Fork detected' in docs/deploy/runbooks.md; nothing more is forwarded",
            )
        return True

    def lines(self, position: Position) -> Iterator[Line]:
        """As `Source`."""
        begin = position.next
        with connected(self._url) as connection:
            while True:
                entries = self._rows(
                    connection,
                    "SELECT idx, body FROM audit_entry WHERE log_id = %s AND idx >= %s AND idx < %s ORDER BY idx",
                    begin,
                    begin + _PAGE,
                )
                found = self._rows(
                    connection,
                    "SELECT size, note FROM audit_checkpoint WHERE log_id = %s AND size > %s AND size <= %s",
                    begin,
                    begin + len(entries),
                )
                notes = {size: bytes(note) for size, note in found}
                for index, body in entries:
                    yield Line(0, bytes(body))
                    if index + 1 in notes:
                        yield Line(0, format_commit(notes[index + 1]))
                if len(entries) < _PAGE:
                    return
                begin += len(entries)
