"""What checks printed, kept by its digest in the repository's private folder, bounded, and shown only when it fits.

A log is advice for people: what cannot be kept is not kept, and a damaged one is found out by its digest.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from safeai_git.core.errors import StorageError, WrongUse
from safeai_git.files import write_atomically

MOST_BYTES = 64 * 2**20
MOST_LOGS = 1_000
LARGEST_LOG = 256 * 2**20
SHORTEST_PREFIX = 6
_SUFFIX = ".zlib"
_PIECE = 1024 * 1024


class CheckLogs:
    """The logs of one repository; the oldest go when there are too many.

    Args:
        folder: Private; made when something is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, digest: str, log: bytes) -> None:
        """Keep a log, as a zlib stream, unless there is no room for it.

        Args:
            digest: SHA-256, hex, of what is in the stream.
            log: The stream; nothing is kept of an empty one.
        """
        if not log or len(log) > MOST_BYTES:
            return
        with suppress(StorageError, OSError):
            self._make_room(len(log))
            write_atomically(self._folder / f"{digest}{_SUFFIX}", log)

    def find(self, wanted: str) -> tuple[str, Iterator[bytes]]:
        """A log by its digest or the beginning of it: the whole digest, and the pieces of the log.

        The log is read twice: first it is held against its digest.

        Raises:
            WrongUse: No log has such a digest, or several have.
            StorageError: It is damaged.
        """
        small = wanted.lower()
        if len(small) < SHORTEST_PREFIX or not all(one in "0123456789abcdef" for one in small):
            raise WrongUse(
                f"'{wanted}' is no digest of a log",
                hint=f"give at least {SHORTEST_PREFIX} hexadecimal digits of its SHA-256",
            )
        found = sorted(self._folder.glob(f"{small}*{_SUFFIX}")) if self._folder.is_dir() else []
        if len(found) != 1:
            raise WrongUse(
                f"{'several logs have' if found else 'no log is kept that has'} a digest that begins with {small}",
                hint="give more of its digits"
                if found
                else "replay the check again; old logs make room for new ones",
            )
        digest = found[0].name.removesuffix(_SUFFIX)
        told = hashlib.sha256()
        for piece in _pieces(found[0]):
            told.update(piece)
        if told.hexdigest() != digest:
            raise StorageError(f"{found[0]} is damaged", hint="delete it and replay the check again")
        return digest, _pieces(found[0])

    def _make_room(self, needed: int) -> None:
        if not self._folder.is_dir():
            return
        kept = []
        for place in self._folder.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):
                status = place.stat()
                kept.append((status.st_mtime_ns, status.st_size, place))
        kept.sort()
        total = sum(size for _, size, _ in kept)
        while kept and (total + needed > MOST_BYTES or len(kept) >= MOST_LOGS):
            _, size, place = kept.pop(0)
            place.unlink(missing_ok=True)
            total -= size


def _pieces(place: Path) -> Iterator[bytes]:
    total = 0
    try:
        stream = zlib.decompressobj()
        with place.open("rb") as file:
            while piece := file.read(_PIECE):
                while piece:
                    plain = stream.decompress(piece, _PIECE)
                    piece = stream.unconsumed_tail
                    total += len(plain)
                    if total > LARGEST_LOG:
                        raise StorageError(f"{place} is damaged", hint="delete it")
                    yield plain
                    if stream.eof:
                        return
    except (OSError, zlib.error) as error:
        raise StorageError(f"{place} cannot be read: {error}", hint="delete it") from error
