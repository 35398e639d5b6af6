"""The spool: envelopes that the Governor has not confirmed yet, on disk, in order, bounded.

An envelope is durable when `Spool.add` returns, and stays until `Spool.remove`, which is only called with a receipt
in hand. Adding the same envelope twice keeps one. Order is that of adding, even if the clock was set back.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from safeai_git.core.display import count
from safeai_git.core.envelope import MAX_LINE, Envelope
from safeai_git.core.errors import FormatError, StorageError
from safeai_git.files import read_bounded, sync_folder, write_atomically

MOST_ENTRIES = 100_000

_ENTRY = re.compile(r"[0-9]{20}-[0-9a-f]{64}\.json")


class Spool:
    """A folder of envelopes, one file each, named so that sorting by name is sorting by age."""

    def __init__(self, folder: Path, *, most: int = MOST_ENTRIES) -> None:
        self._folder = folder
        self._most = most

    def add(self, envelope: Envelope) -> None:
        """Put an envelope at the end.

        Raises:
            StorageError: The disk refused it, or the spool is full; nothing that was in it is lost.
        """
        names = self._names()
        if any(name.endswith(f"-{envelope.digest}.json") for name in names):
            return
        if len(names) >= self._most:
            raise StorageError(
                f"the spool {self._folder} is full: it holds {count(len(names), 'envelope')}",
                hint="nothing of it is lost; find out why the Governor takes none of them",
            )
        newest = int(names[-1].partition("-")[0]) if names else 0
        moment = max(time.time_ns(), newest + 1)
        write_atomically(self._folder / f"{moment:020d}-{envelope.digest}.json", envelope.format())

    def __len__(self) -> int:
        return len(self._names())

    def __iter__(self) -> Iterator[tuple[str, Envelope]]:
        """Each entry's name and envelope, oldest first. Files that are no envelopes are passed over."""
        for name in self._names():
            with suppress(FormatError, OSError):
                yield name, Envelope.parse(read_bounded(self._folder / name, MAX_LINE))

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

    def _names(self) -> list[str]:
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
