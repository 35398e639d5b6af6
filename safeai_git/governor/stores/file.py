"""The store that keeps a log in one file, ``audit.log``: JSON lines that can be copied, read and verified as they are.

Durable when `append` returns: one write, one fdatasync, and the bytes read back and hashed again. Commit lines ride on
the next sync. Any error of a write or a sync ends the store: the page cache may lie about what is on the disk, so only a
new start may look again. ``audit.head`` remembers the newest checkpoint; ``audit.lock`` keeps a second process out.
"""

from __future__ import annotations

import os
import stat
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from safeai_git.core.errors import FormatError, LogProofInvalid, StorageError
from safeai_git.core.log import base64
from safeai_git.core.log.chain import Chain, is_commit, lines_of
from safeai_git.core.log.checkpoint import OpenedCheckpoint, open_checkpoint
from safeai_git.core.log.entry import Draft, format_commit
from safeai_git.core.log.merkle import leaf_hash
from safeai_git.core.log.note import MAX_BYTES, NoteKey
from safeai_git.core.trust import Verify
from safeai_git.files import read_bounded, sync_folder, write_atomically
from safeai_git.governor.stores.index_file import NOTE, IndexFile
from safeai_git.governor.stores.lock import LOG, locked
from safeai_git.governor.stores.port import Appended, LogFailed, LogFull, Older, covered
from safeai_git.governor.stores.recovery import Cut, chunks, quarantine, read_log, resume, rolled_back
from safeai_git.governor.stores.sealed import SealedState
from safeai_git.governor.stores.segments import EVERY, SEGMENT, set_bits
from safeai_git.governor.stores.tending import Tended

HEAD = "audit.head"

RESERVE = 64 * 1024 * 1024
"""Bytes that must stay free: below it nothing is taken any more, well before a write would fail."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose log it is.

    Attributes:
        origin: Its name.
        keys: The keys that its checkpoints are signed with.
        verify: The check of one Ed25519 signature.
    """

    origin: str
    keys: tuple[NoteKey, ...]
    verify: Verify


class FileStore:
    """A `Store` in a folder. `open_folder` makes one.

    Attributes:
        path: The log.
        cut: What a crash had left behind the last whole line, if it had.
        unheld: How many entries the start took from the index, and nobody has read since.
        unused: Why the index was not used; empty where it was.
    """

    def __init__(self, folder: Path, identity: Identity, *, head: Path, reserve: int, lock: int) -> None:
        self.path = folder / LOG
        self.cut: Cut | None = None
        self.on_sync: Callable[[float], None] | None = None
        self._identity = identity
        self._head_path = head
        self._reserve = reserve
        self._lock = lock
        self.unheld = 0
        self.unused = "all of the log was to be read"
        self._index = IndexFile(folder, identity.origin)
        self._state = SealedState(self.entry, self._index)
        self._marks = array("Q")
        self._failed: LogFailed | None = None
        self._published: bytes | None = None
        self._remembered: bytes | None = None
        self._file = self._reading = -1
        self._end = 0

    @classmethod
    def open_folder(
        cls,
        folder: Path,
        identity: Identity,
        *,
        head: Path | None = None,
        reserve: int = RESERVE,
        whole: bool = False,
    ) -> FileStore:
        """Open the log in a folder, or begin one where none was before.

        Args:
            folder: The Governor's data folder.
            identity: Whose log it is.
            head: Where the newest checkpoint is remembered; ``audit.head`` beside the log if not said.
            reserve: Bytes of the disk that must stay free.
            whole: Read all of the log, whatever the index says.

        Raises:
            StorageError: Another process has it, or it cannot be read or written.
            LogProofInvalid: It is damaged, rolled back, forked, or gone though there was one.
        """
        lock = locked(folder)
        store = cls(folder, identity, head=head or folder / HEAD, reserve=reserve, lock=lock)
        try:
            store._open(whole=whole)
        except OSError as error:
            store._let_go()
            raise StorageError(
                f"{store.path} cannot be opened: {error.strerror or error}",
                hint="check the folder's permissions, and that the log is a plain file",
            ) from error
        except BaseException:
            store._let_go()
            raise
        return store

    def _open(self, *, whole: bool) -> None:
        anchor = self._anchor()
        self._refuse_traces(anchor)
        if not self.path.exists() and not self.path.is_symlink():
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            sync_folder(self.path.parent)
        flags = os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._file = os.open(self.path, os.O_RDWR | flags)
        self._reading = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise StorageError(f"{self.path} is not a plain file")
        # After a crash some of it may be in memory only; what cannot be synced must not be signed.
        os.fdatasync(self._file)
        os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)
        chain = self._chain()
        offset = 0 if whole else self._resume(chain, anchor)
        scan = read_log(self._reading, chain, self._state, self._marks, anchor, offset)
        if scan.end < os.fstat(self._file).st_size:
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            self.cut = quarantine(self.path, self._file, scan.end, stamp, scan.fault)
        self._end = scan.end
        self._published = chain.checkpoint.note if chain.checkpoint else None
        if anchor is not None and anchor.checkpoint.size > chain.committed:
            self._published = anchor.note  # the commit line was lost, its entries were not
        self._remembered = anchor.note if anchor else None

    def _chain(self) -> Chain:
        return Chain(self._identity.origin, self._identity.keys, self._identity.verify)

    def _resume(self, chain: Chain, anchor: OpenedCheckpoint | None) -> int:
        """Take in what the index holds; the byte of the log at which reading goes on, 0 where it is of no use."""
        try:
            self._state, offset = resume(self._reading, chain, self._index, self.entry, self._marks, anchor)
        except (OSError, ValueError, LookupError, FormatError, LogProofInvalid, LogFailed) as error:
            none = isinstance(error, FileNotFoundError)
            self.unused = "there is none" if none else getattr(error, "message", str(error))
            self._index.close()
            self._index = IndexFile(self.path.parent, self._identity.origin)
            self._state = SealedState(self.entry, self._index)
            self._marks = array("Q")
            return 0
        self.unused, self.unheld = "", self._index.size
        return offset

    def older(self) -> Older | None:
        """What the index says of its entries."""
        bits = self._state.bits
        size = len(bits) * SEGMENT
        if not size:
            return None
        prev = base64.encode(self.node(0, size - 1))
        return Older(
            size, prev, lambda: (i for at, one in enumerate(bits) for i in set_bits(one, at * SEGMENT))
        )

    def tended(self) -> Tended:
        """What is done beside the log, once it has begun."""
        where = self.path, self._reading, self._chain, self._index, self._state
        return Tended(*where, lambda: covered(self._published), self._held, self._fail)

    def _held(self, size: int) -> None:
        if size >= self.unheld:
            self.unheld = 0

    def _anchor(self) -> OpenedCheckpoint | None:
        try:
            data = read_bounded(self._head_path, MAX_BYTES)
        except FileNotFoundError:
            return None
        try:
            return open_checkpoint(data, self._identity.origin, self._identity.keys, self._identity.verify)
        except (FormatError, LogProofInvalid) as error:
            raise LogProofInvalid(
                f"{self._head_path} is no checkpoint of this log: {error.message}",
                hint="signed with a former key: name that in SAFEAI_LOG_KEYS. Damaged, or of another log: "
                "if 'safeai audit --verify' finds the log in order, move it away",
            ) from None

    def _refuse_traces(self, anchor: OpenedCheckpoint | None) -> None:
        """An empty log is begun only where nothing says that there was one."""
        if self.path.is_symlink():
            raise StorageError(f"{self.path} is a symbolic link", hint="name the folder that it leads to")
        if self.path.exists() and self.path.stat().st_size:
            return
        if anchor is not None and anchor.checkpoint.size:
            raise rolled_back(0, anchor)
        found = [*self.path.parent.glob(f"{LOG}.*"), *self.path.parent.glob(NOTE)]
        traces = sorted(one.name for one in found)
        if self.path.exists():  # a crash in the very first entry leaves an empty log and a torn end
            traces = [name for name in traces if not name.startswith(f"{LOG}.torn-")]
        if traces:
            raise LogProofInvalid(
                f"there was a log in {self.path.parent}: {traces[0]} is there, and {LOG} is gone or empty",
                hint="restore it from a backup; a new log under the same name would contradict the old one",
            )

    @property
    def size(self) -> int:
        """How many entries there are."""
        return self._state.head.frontier.size

    @property
    def published(self) -> bytes | None:
        """The note of the newest checkpoint."""
        return self._published

    def append(self, drafts: Sequence[Draft], now: int) -> Appended:
        """Give each draft a place; durable when this returns."""
        if self._failed:
            raise self._failed
        try:
            self._check_place()
            planned = self._state.plan(drafts, now)
            if planned.lines:
                data = b"\n".join(planned.lines) + b"\n"
                self._check_space(len(data))
                self._write(data)
                started = time.perf_counter()
                os.fdatasync(self._file)
                if self.on_sync is not None:
                    self.on_sync(time.perf_counter() - started)
                self._check_written(planned.leaves, self._end, len(data))
        except OSError as error:
            raise self._fail(error.strerror or str(error)) from error
        offset = self._end
        for at, line in enumerate(planned.lines, self.size):
            if at % EVERY == 0:
                self._marks.append(offset)
            offset += len(line) + 1
        self._end = offset
        return self._state.apply(planned)

    def publish(self, note: bytes, size: int) -> None:
        """Write a commit line; it becomes durable with the next sync."""
        if self._failed:
            raise self._failed
        if size != self.size:
            raise ValueError(f"a commit line over {size} entries cannot stand behind {self.size}")
        line = format_commit(note) + b"\n"
        try:
            self._write(line)
        except OSError as error:
            raise self._fail(error.strerror or str(error)) from error
        self._end += len(line)
        self._published = note

    def remember(self) -> None:
        """Write the newest checkpoint to ``audit.head``, whole or not at all."""
        note = self._published
        if note is not None and note != self._remembered:
            write_atomically(self._head_path, note, mode=0o644)
            self._remembered = note

    def entry(self, index: int) -> bytes:
        """The exact bytes of an entry."""
        found = self._entries(index, 1) if 0 <= index < len(self._marks) * EVERY else []
        if not found:
            raise LookupError(f"the log has no entry {index}")
        return found[0]

    def read(self, first: int, most: int) -> list[bytes]:
        """Entries from `first` on."""
        count = min(most, self.size - first)
        return self._entries(first, count) if count > 0 else []

    def _entries(self, first: int, count: int) -> list[bytes]:
        offset, skip = self._marks[first // EVERY], first % EVERY
        found: list[bytes] = []
        try:
            for line in lines_of(chunks(self._reading, offset, 1 << 16), offset):
                if is_commit(line.data) or not line.ended:
                    continue
                if skip:
                    skip -= 1
                    continue
                found.append(line.data)
                if len(found) == count:
                    break
        except OSError as error:
            raise LogFailed(f"{self.path} cannot be read: {error.strerror or error}") from error
        older = found[: max(0, self.unheld - first)]
        if older and not self._state.holds(first, older):
            self._index.forget()
            raise self._fail(f"one of the entries {first} to {first + len(older) - 1} was changed")
        return found

    def tail(self) -> tuple[int, str]:
        """Where the log ends."""
        head = self._state.head
        return head.frontier.size, head.prev

    def watch(self, wake: Callable[[], None]) -> None:
        """Nobody else appends."""

    def find(self, key: str) -> int | None:
        """The place of the entry with an id."""
        return self._state.index_of(key)

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree."""
        return self._state.hashes.node(level, index)

    def root(self) -> bytes:
        """The root of the tree."""
        return self._state.head.frontier.root()

    def close(self) -> None:
        """Sync, remember the newest checkpoint, and let the next process in."""
        if self._lock < 0:
            return
        try:
            if not self._failed:
                os.fdatasync(self._file)
                self.remember()
        except OSError as error:
            raise self._fail(error.strerror or str(error)) from error
        finally:
            self._let_go()

    def _let_go(self) -> None:
        for descriptor in (self._file, self._reading, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._reading = self._lock = -1
        self._index.close()

    def _check_place(self) -> None:
        """Whether the file is still the one that the path names, and ends where we left it."""
        here = os.fstat(self._file)
        try:
            there = self.path.lstat()
        except FileNotFoundError:
            raise self._fail("it was deleted or moved away while it was open") from None
        if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
            raise self._fail("another file was put into its place")
        if here.st_size != self._end:
            raise self._fail(
                f"somebody else wrote to it: it has {here.st_size:,} bytes, and {self._end:,} are ours"
            )

    def _check_space(self, count: int) -> None:
        room = os.fstatvfs(self._file)
        free = room.f_bavail * room.f_frsize
        if self._reserve and free - count < self._reserve:
            raise LogFull(
                f"only {free >> 20:,} MiB are free where {self.path} is; {self._reserve >> 20:,} MiB stay in reserve",
                hint="make room; nothing has to be started again",
            )

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._file, rest) :]

    def _check_written(self, leaves: Sequence[bytes], offset: int, count: int) -> None:
        """Read the batch back: a head is signed over what the file holds, not over what we meant to write."""
        parts: list[bytes] = []
        while count:
            part = os.pread(self._reading, count, offset)
            if not part:
                raise self._fail("what was written cannot be read back")
            parts.append(part)
            offset, count = offset + len(part), count - len(part)
        lines = b"".join(parts).split(b"\n")
        if lines.pop() or len(lines) != len(leaves) or any(map(_differs, lines, leaves)):
            raise self._fail("what was read back is not what was written")

    def _fail(self, reason: str) -> LogFailed:
        self._failed = LogFailed(
            f"{self.path} takes nothing any more: {reason}",
            hint="nothing that was acknowledged is lost; find the cause and start the Governor again",
        )
        return self._failed


def _differs(line: bytes, leaf: bytes) -> bool:
    return leaf_hash(line) != leaf
