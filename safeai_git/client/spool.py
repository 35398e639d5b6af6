"""Spools: what the Governor has not confirmed yet, on disk, in order, bounded. One for envelopes, one for incidents.

An entry is durable when `Queue.add` returns, and stays until `Queue.remove`, which is only called with a receipt
in hand. Adding the same one twice keeps one. Order is that of adding, even if the clock was set back.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from safeai_git.core.display import count
from safeai_git.core.envelope import MAX_LINE, Envelope
from safeai_git.core.errors import FormatError, StorageError
from safeai_git.core.incident import LONGEST, Incident
from safeai_git.files import read_bounded, sync_folder, write_atomically

MOST_ENTRIES = 100_000

_ENTRY = re.compile(r"[0-9]{20}-[0-9a-f]{64}\.json")


class Line(Protocol):
    """What is spooled: a line, and its SHA-256 in hex."""

    @property
    def digest(self) -> str:
        """SHA-256 of the line."""

    def format(self) -> bytes:
        """Write it as one line."""


T = TypeVar("T", bound=Line)


class Queue(Generic[T]):
    """A folder of lines, one file each, named so that sorting by name is sorting by age.

    Args:
        folder: The folder.
        parse: The inverse of an entry's ``format``; raises `FormatError`.
        longest: Bytes of an entry, at most.
        most: Entries, at most.
    """

    def __init__(
        self, folder: Path, parse: Callable[[bytes], T], longest: int, most: int = MOST_ENTRIES
    ) -> None:
        self._folder = folder
        self._parse = parse
        self._longest = longest
        self._most = most

    def add(self, one: T) -> None:
        """Put an entry at the end.

        Raises:
            StorageError: The disk refused it, or the spool is full; nothing that was in it is lost.
        """
        names = self.names()
        if any(name.endswith(f"-{one.digest}.json") for name in names):
            return
        if len(names) >= self._most:
            raise StorageError(
                f"the spool {self._folder} is full: it holds {count(len(names), 'entry', 'entries')}",
                hint="nothing of it is lost; find out why the Governor takes none of them",
            )
        newest = int(names[-1].partition("-")[0]) if names else 0
        moment = max(time.time_ns(), newest + 1)
        write_atomically(self._folder / f"{moment:020d}-{one.digest}.json", one.format())

    def __len__(self) -> int:
        return len(self.names())

    def __iter__(self) -> Iterator[tuple[str, T]]:
        """Each entry with its file's name, oldest first. Files that are none are passed over."""
        return self.read(self.names())

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, T]]:
        """The entries in some of its files, each with that file's name. Files that are none, or are gone, are passed over."""
        for name in names:
            with suppress(FormatError, OSError):
                yield name, self._parse(read_bounded(self._folder / name, self._longest))

    def remove(self, name: str) -> None:
        """Take an entry out, once the Governor has confirmed it.

        Raises:
            StorageError: It could not be taken out.
        """
        try:
            (self._folder / name).unlink(missing_ok=True)
            sync_folder(self._folder)
        except OSError as error:
            raise self._unusable(error) from error

    def names(self) -> list[str]:
        """The names of its files, oldest first.

        Raises:
            StorageError: The folder cannot be read.
        """
        try:
            return sorted(path.name for path in self._folder.iterdir() if _ENTRY.fullmatch(path.name))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> StorageError:
        return StorageError(
            f"the spool {self._folder} cannot be used: {error.strerror}",
            hint="check the folder's permissions",
        )


class Spool(Queue[Envelope]):
    """Envelopes, in the folder ``spool`` of a repository's private directory."""

    def __init__(self, folder: Path, *, most: int = MOST_ENTRIES) -> None:
        super().__init__(folder, Envelope.parse, MAX_LINE, most)


class IncidentSpool(Queue[Incident]):
    """Reports of commits without a verdict, in the folder ``incidents`` of a server's private directory."""

    def __init__(self, private: Path) -> None:
        super().__init__(private / "incidents", Incident.parse, LONGEST)
