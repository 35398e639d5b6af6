"""How far forwarding is: what was acknowledged, and the state in which verification goes on from there.

Written whole and synced after each acknowledgement, and only then: killed in between, the same records are sent again. It is
believed as the log's key is: whoever can write it can have entries left out, which the receiver sees by a gap in their
numbers.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safeai_git.core.errors import FormatError, StorageError, WrongUse
from safeai_git.core.log import base64
from safeai_git.core.log.entry import parse_time
from safeai_git.core.log.merkle import Frontier
from safeai_git.core.log.tiles import MAX_ENTRY
from safeai_git.files import read_bounded, write_atomically

_LARGEST = 262_144
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two entries of a log, and what the entries before it amount to.

    Attributes:
        frontier: The tree over them.
        last: Leaf hash of the last one; empty at the beginning.
        time: Its time; empty at the beginning.
        offset: Where its line ends in the log's file, in bytes; 0 where that is not known, or the log is in no file.
        length: Bytes of that line with its newline.
    """

    frontier: Frontier = field(default_factory=Frontier)
    last: bytes = b""
    time: str = ""
    offset: int = 0
    length: int = 0

    @property
    def next(self) -> int:
        """The entry that is due."""
        return self.frontier.size

    @property
    def prev(self) -> str:
        """What the entry that is due carries as the hash of the one before."""
        return base64.encode(self.last) if self.last else ""

    def after(self, leaves: Sequence[bytes], time: str, offset: int, length: int) -> Position:
        """The place behind some more entries.

        Args:
            leaves: Their leaf hashes; at least one.
            time: Of the last of them, as are the others.
            offset: Where its line ends.
            length: How long that is.
        """
        frontier = self.frontier.copy()
        for leaf in leaves:
            frontier.append(leaf)
        return Position(frontier, leaves[-1], time, offset, length)


@dataclass(frozen=True, slots=True)
class Cursor:
    """What the file holds.

    Attributes:
        origin: The log's name.
        destination: Where to, without secrets (`targets.Target.name`).
        position: Everything before it was acknowledged.
        checkpoint: The note that the last of it was verified against; empty at the beginning.
    """

    origin: str
    destination: str
    position: Position
    checkpoint: str = ""

    def format(self) -> bytes:
        """The file's content."""
        at = self.position
        data = {
            "format": _FORMAT,
            "log": self.origin,
            "destination": self.destination,
            "next": at.next,
            "edge": [base64.encode(one) for one in at.frontier.edge],
            "last": at.prev,
            "time": at.time,
            "offset": at.offset,
            "length": at.length,
            "checkpoint": self.checkpoint,
        }
        return json.dumps(data, indent=1).encode() + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> Cursor:
        """The inverse of `format`.

        Raises:
            FormatError: It holds something else.
        """
        try:
            return cls._of(json.loads(data))
        except (ValueError, RecursionError) as error:
            raise FormatError(f"not a cursor: {error}") from None

    @classmethod
    def _of(cls, data: Any) -> Cursor:
        match data:
            case {
                "format": 1,
                "log": str(origin),
                "destination": str(destination),
                "next": int(size),
                "edge": list(edge),
                "last": str(last),
                "time": str(time),
                "offset": int(offset),
                "length": int(length),
                "checkpoint": str(checkpoint),
            }:
                frontier = Frontier(size, [base64.decode_hash(str(one), "an edge") for one in edge])
                hashed = base64.decode_hash(last, "the last entry") if last else b""
            case _:
                raise FormatError("not a cursor of this version")
        placed = 0 <= length <= min(offset, MAX_ENTRY + 1) and offset < 1 << 62
        timed = not size or parse_time(time) >= 0
        if not 0 <= size < 1 << 62 or bool(hashed) != bool(size) or not (placed and timed):
            raise FormatError("not a cursor: it contradicts itself")
        return cls(origin, destination, Position(frontier, hashed, time, offset, length), checkpoint)


class CursorFile:
    """The file. One process at a time: `held`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Cursor | None:
        """What it holds; ``None`` where it is not there.

        Raises:
            StorageError: It cannot be read, or is damaged: then nobody knows what was sent.
        """
        try:
            data = read_bounded(self.path, _LARGEST)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"the cursor {self.path} cannot be read: {error.strerror or error}") from error
        try:
            return Cursor.parse(data)
        except FormatError as error:
            raise StorageError(
                f"the cursor {self.path} is damaged: {error.message}",
                hint="put a copy back, or move it away: then everything is sent again from the beginning",
            ) from None

    def save(self, cursor: Cursor) -> None:
        """Keep it; durable when this returns.

        Raises:
            StorageError: It could not be written; what was there is untouched.
        """
        write_atomically(self.path, cursor.format(), mode=0o600)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from forwarding by the same cursor.

        Raises:
            WrongUse: Another one does.
            StorageError: Its folder cannot be written.
        """
        path = self.path.with_name(f"{self.path.name}.lock")
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StorageError(
                f"{path} cannot be opened: {error.strerror or error}",
                hint="the cursor has to lie where this process can write: SAFEAI_FORWARD_CURSOR",
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise WrongUse(
                f"another process forwards by the cursor {self.path}",
                hint="one at a time; another destination has a cursor of its own",
            ) from None
        finally:
            os.close(lock)
