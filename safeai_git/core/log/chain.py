"""A log's lines, read one after the other: every check that needs no more than the lines before.

`Chain` is a state machine that takes a line or raises; after an error it stands where it stood. The Governor starts
with it, an auditor verifies with it.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

from safeai_git.core.errors import FormatError, LogProofInvalid
from safeai_git.core.log.checkpoint import Checkpoint, OpenedCheckpoint, open_checkpoint
from safeai_git.core.log.entry import COMMIT_START, ENTRY_START, parse_commit, taken_apart
from safeai_git.core.log.merkle import Frontier
from safeai_git.core.log.note import NoteKey
from safeai_git.core.log.tiles import MAX_ENTRY
from safeai_git.core.trust import Verify

LONGEST_LINE = 4 * MAX_ENTRY
"""A commit line with many cosignatures may be longer than any entry."""


class Line(NamedTuple):
    """A line of a file.

    Attributes:
        offset: Where it begins, in bytes.
        data: Its bytes, without the newline.
        ended: Whether a newline came; without one it is the file's last line.
    """

    offset: int
    data: bytes
    ended: bool = True


def lines_of(chunks: Iterable[bytes], offset: int = 0) -> Iterator[Line]:
    """Cut a file's bytes into lines; one without an end within `LONGEST_LINE` bytes is handed out cut off."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for data in whole:
            yield Line(offset, data)
            offset += len(data) + 1
        if len(rest) > LONGEST_LINE:
            yield Line(offset, rest, ended=False)
            return
    if rest:
        yield Line(offset, rest, ended=False)


@dataclass(slots=True)
class Chain:
    """What the lines so far amount to.

    Attributes:
        origin: The log's name.
        keys: Its keys; witnesses' keys may be among them.
        verify: The check of one Ed25519 signature.
        frontier: The tree over the entries so far.
        checkpoint: The newest checkpoint of a commit line.
        commits: How many commit lines there were.
    """

    origin: str
    keys: tuple[NoteKey, ...]
    verify: Verify
    frontier: Frontier = field(default_factory=Frontier)
    checkpoint: OpenedCheckpoint | None = None
    commits: int = 0
    _prev: bytes = b""
    _time: bytes = b""

    @property
    def prev(self) -> str:
        """Base64 of the last entry's leaf hash; empty before the first."""
        return self._prev.decode()

    @property
    def time(self) -> str:
        """The last entry's time; empty before the first."""
        return self._time.decode()

    @property
    def size(self) -> int:
        """How many entries there were."""
        return self.frontier.size

    @property
    def committed(self) -> int:
        """How many of them a commit line covers."""
        return self.checkpoint.checkpoint.size if self.checkpoint else 0

    def begin_behind(self, line: bytes, frontier: Frontier) -> None:
        """Go on behind an entry that the caller has checked.

        Args:
            line: The entry.
            frontier: The tree over all entries up to it.

        Raises:
            FormatError: The line is no entry.
        """
        self._time = taken_apart(line)[3]
        self._prev = b2a_base64(sha256(b"\x00" + line).digest(), newline=False)
        self.frontier = frontier

    def entry(self, line: bytes) -> tuple[str, str, bytes]:
        """Take an entry.

        Returns:
            Its kind, its id and its leaf hash.

        Raises:
            FormatError: The line is no entry.
            LogProofInvalid: It does not follow the entries before it.
        """
        found, leaf = self.follow(line)
        return found[5].decode(), found[6].decode(), leaf

    def follow(self, line: bytes) -> tuple[re.Match[bytes], bytes]:
        """Take an entry: `entry`, for who wants it as `taken_apart` gives it.

        Returns:
            The match, and the entry's leaf hash.
        """
        found = taken_apart(line)
        seq, prev, time = found.group(1, 2, 3)
        if seq != b"%d" % self.frontier.size:
            raise LogProofInvalid(
                f"the entry says that it is number {seq.decode()}, and number {self.size} is due"
            )
        if prev != self._prev:
            before = (
                f"the hash of entry {self.size - 1}: one of the two was changed" if self.size else "no hash"
            )
            raise LogProofInvalid(f"entry {self.size} does not carry {before}")
        if time < self._time:
            raise LogProofInvalid(f"entry {self.size} is older than the entry before it")
        leaf = sha256(b"\x00" + line).digest()
        self.frontier.append(leaf)
        self._prev, self._time = b2a_base64(leaf, newline=False), time
        return found, leaf

    def commit(self, line: bytes) -> OpenedCheckpoint:
        """Take a commit line.

        Raises:
            FormatError: The line is no commit line.
            LogProofInvalid: Its signature does not hold, or it says something else than the entries do.
        """
        opened = open_checkpoint(parse_commit(line), self.origin, self.keys, self.verify)
        self.agree(opened.checkpoint)
        if self.checkpoint is not None and self.committed == opened.checkpoint.size:
            raise LogProofInvalid(f"a second commit line for size {self.committed}")
        self.checkpoint = opened
        self.commits += 1
        return opened

    def agree(self, checkpoint: Checkpoint) -> None:
        """Hold a checkpoint of the present size against the entries.

        Raises:
            LogProofInvalid: They contradict each other.
        """
        if checkpoint.size != self.size:
            raise LogProofInvalid(
                f"the checkpoint is over {checkpoint.size} entries, and {self.size} stand before it"
            )
        if checkpoint.root != self.frontier.root():
            raise LogProofInvalid(
                f"the checkpoint over {self.size} entries has another root than they have: "
                f"one of the entries {min(self.committed, self.size - 1)} to {self.size - 1} was changed"
            )


def is_entry(line: bytes) -> bool:
    """Whether a line claims to be an entry."""
    return line.startswith(ENTRY_START)


def is_commit(line: bytes) -> bool:
    """Whether a line claims to be a commit line."""
    return line.startswith(COMMIT_START)


def holds_valid_commit(
    lines: Iterable[Line], origin: str, keys: tuple[NoteKey, ...], verify: Verify
) -> Line | None:
    """Look for a commit line that this log has signed: after an invalid line it cannot come from a crash.

    Returns:
        The first one; ``None`` when there is none.
    """
    for line in lines:
        if line.ended and is_commit(line.data):
            try:
                open_checkpoint(parse_commit(line.data), origin, keys, verify)
            except (FormatError, LogProofInvalid):
                continue
            return line
    return None
