"""``audit.index``: what a start needs of the log's older part, believed because the log's own key signed it.

The file is a row of records (`segments`), appended to and never changed. ``audit.index.note`` says how many of them count,
and is signed by the log's key over the digest of every block of them, the tree's root and the log's name: whoever can
write the folder and has no key cannot change, add or leave out anything. Blocks that are read later are held against
those digests again. What does not fit is not used: the log itself is read instead, and the file made anew.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from safeai_git.core.errors import FormatError, LogProofInvalid, StorageError
from safeai_git.core.log import base64
from safeai_git.core.log.note import Note, NoteKey
from safeai_git.core.trust import Verify
from safeai_git.files import read_bounded, sync_folder, write_atomically
from safeai_git.governor.stores.port import LogFailed
from safeai_git.governor.stores.segments import BLOCK, BLOCKS, RECORD, SEGMENT, STATE_KINDS

INDEX, NOTE = "audit.index", "audit.index.note"

SALT_BYTES = 16
ROOM = 128 * 1024 * 1024
"""Bytes that must be free for the index to grow: twice what the log leaves free."""

_LARGEST_NOTE = 16_384
_COUNT = re.compile(r"[1-9][0-9]{0,8}")
_TITLE = "safeai log index v1"
"""No log is called that: a name has no spaces. So no such note is ever taken for a checkpoint."""


class IndexFile:
    """The file, open.

    Args:
        folder: The log's.
        origin: The log's name.

    Attributes:
        count: How many records there are.
        salt: Of the ids.
        root: Of the tree over all entries of the records, as the note says it.
    """

    def __init__(self, folder: Path, origin: str) -> None:
        self.path = folder / INDEX
        self._note = folder / NOTE
        self._origin = origin
        self._file = -1
        self._digests = bytearray()
        self._expected = (0, b"")
        self.count = 0
        self.salt = os.urandom(SALT_BYTES)
        self.root = b""

    @property
    def size(self) -> int:
        """How many entries of the log are in it."""
        return self.count * SEGMENT

    def claim(self, keys: tuple[NoteKey, ...], verify: Verify) -> None:
        """Open the file and read the note: what is signed of it.

        Raises:
            FileNotFoundError: There is none.
            OSError: It cannot be read.
            FormatError: It is none, or one of another version.
            LogProofInvalid: It is not signed with the log's key.
        """
        note = Note.parse(read_bounded(self._note, _LARGEST_NOTE))
        # A former key that has an end says nothing about now, and this has no size of the log to hold it to.
        if all(one.until is not None for one in note.check(keys, verify)):
            raise LogProofInvalid("it is not signed with the log's key")
        lines = note.text.split("\n")
        if len(lines) != 7 or lines[:3] != [_TITLE, self._origin, _kinds()]:
            raise FormatError("it is the index of another log, or of another version")
        count, _, salt = lines[3].partition(" ")
        if not _COUNT.fullmatch(count):
            raise FormatError("it does not say how large it is")
        self.salt, self.root = base64.decode(salt, "a salt"), base64.decode(lines[4], "a root")
        if len(self.salt) != SALT_BYTES:
            raise FormatError("it has no salt")
        self._expected = int(count), base64.decode(lines[5], "a digest")
        self._open(os.O_RDWR)

    @property
    def claimed(self) -> int:
        """How many records the note that was read says there are."""
        return self._expected[0]

    def records(self) -> Iterator[bytes]:
        """The records that are claimed; none is to be believed before the last one was handed out.

        Raises:
            OSError: They cannot be read.
            FormatError: Some are missing.
            LogProofInvalid: They are not what was signed.
        """
        count, expected = self._expected
        for number in range(count):
            record = os.pread(self._file, RECORD, number * RECORD)
            if len(record) != RECORD:
                raise FormatError("it is shorter than was signed")
            self._digests += _digests(record)
            yield record
        if sha256(self._digests).digest() != expected:
            raise LogProofInvalid("it is not what was signed")
        self.count = count

    def forget(self) -> None:
        """Have the next start read the log instead."""
        with suppress(OSError):
            self._note.unlink(missing_ok=True)

    def _open(self, flags: int) -> None:
        flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._file = os.open(self.path, flags, 0o600)
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise FormatError("it is not a plain file")

    def differs(self, number: int, record: bytes) -> bool:
        """Whether a record is another one than the file has."""
        width = 32 * BLOCKS
        return self._digests[number * width : (number + 1) * width] != _digests(record)

    def append(self, record: bytes, root: bytes, sign: Callable[[str], bytes]) -> None:
        """Add a record, durable and signed when this returns; doing it again after an error is fine.

        Args:
            record: The next segment's.
            root: Of the tree over all entries up to its end.
            sign: Signs a text with the log's key.

        Raises:
            OSError, StorageError: It cannot be written.
            CouldNotDecide: It cannot be signed.
        """
        if self._file < 0:
            self._open(os.O_RDWR | os.O_CREAT)
        room = os.fstatvfs(self._file)
        if room.f_bavail * room.f_frsize < ROOM:
            raise StorageError(f"{ROOM >> 20} MiB stay free where {self.path} is")
        at = self.count * RECORD
        rest = memoryview(record)
        while rest:
            done = os.pwrite(self._file, rest, at)
            rest, at = rest[done:], at + done
        os.fdatasync(self._file)
        sync_folder(self.path.parent)
        digests = self._digests + _digests(record)
        count, salt = self.count + 1, base64.encode(self.salt)
        parts = [_TITLE, self._origin, _kinds(), f"{count} {salt}", base64.encode(root)]
        text = "\n".join([*parts, base64.encode(sha256(digests).digest()), ""])
        write_atomically(self._note, sign(text))
        self._digests, self.root, self.count = digests, root, count

    def block(self, number: int) -> bytes:
        """A block's bytes.

        Raises:
            LogFailed: They are not what was signed, or cannot be read.
        """
        try:
            data = os.pread(self._file, BLOCK, number * BLOCK)
        except OSError as error:
            raise LogFailed(f"{self.path} cannot be read: {error.strerror or error}") from error
        if sha256(data).digest() != self._digests[32 * number : 32 * number + 32]:
            raise LogFailed(
                f"{self.path} was changed while it was open",
                hint="start the Governor again: the index is then made anew from the log",
            )
        return data

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _kinds() -> str:
    return b" ".join(STATE_KINDS).decode()


def _digests(record: bytes) -> bytes:
    view = memoryview(record)
    return b"".join([sha256(view[at : at + BLOCK]).digest() for at in range(0, RECORD, BLOCK)])
