"""A push's update of the notes: what the notes hold at given commits, and what an update does to them.

Notes carry envelopes, one a line, and lines are only ever added (B-87). Promises that what it hands out was read from
the commits named and from no ref, so that it serves inside a push, before any ref has moved. Refuses trees that are
not notes and trees that would not end: git's own layout is two hexadecimal digits a folder, and entries are counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from safeai_git.core.envelope import Envelope
from safeai_git.core.errors import FormatError
from safeai_git.core.objects import TreeEntry, parse_tree
from safeai_git.git.notes_tree import LARGEST_NOTE
from safeai_git.git.repository import Repository
from safeai_git.git.store import ObjectStore, read_commit, read_tree

MOST_ENTRIES = 1_000_000
"""Entries of all trees of the notes together, read at most. Equal subtrees count each time, or a tree could be a bomb."""

_FOLDER = re.compile(rb"[0-9a-f]{2}")
_PLAIN_FILES = (b"100644", b"100755")


@dataclass(slots=True)
class NotesAt:
    """The notes at some commits, read when first asked for.

    Args:
        repository: An open repository.
        tips: Commits of notes, in hex.
        check: Called for each tree; raises when the time is used up.
        most: See `MOST_ENTRIES`.
    """

    repository: Repository
    tips: tuple[str, ...]
    check: Callable[[], None] = lambda: None
    most: int = MOST_ENTRIES
    _index: dict[str, list[str]] | None = field(default=None)
    _strange: list[bytes] = field(default_factory=list)
    _read: int = 0

    @property
    def blobs(self) -> dict[str, list[str]]:
        """Names of blobs by the name of the object that they annotate.

        Raises:
            FormatError: A tree cannot be taken apart, or there are too many entries.
        """
        if self._index is None:
            found: dict[str, list[str]] = {}
            for tip in dict.fromkeys(self.tips):
                self._collect(read_commit(self.repository.store, tip).tree, b"", found)
            self._index = found
        return self._index

    @property
    def strange(self) -> list[bytes]:
        """Paths of what is in the trees and is no note."""
        _ = self.blobs
        return self._strange

    def lines(self, name: str) -> list[bytes]:
        """The lines of the notes on an object, in no particular order."""
        store = self.repository.store
        return [line for blob in self.blobs.get(name, ()) for line in blob_lines(store, blob) or ()]

    def _collect(self, tree: str, prefix: bytes, found: dict[str, list[str]]) -> None:
        self.check()
        entries = self._entries(tree)
        self._read += len(entries)
        if self._read > self.most:
            raise FormatError(
                f"the notes hold more than {self.most:,} entries",
                hint="push notes as 'git notes' and safeai-git write them",
            )
        width = self.repository.store.hash_size * 2
        digits = len(prefix.replace(b"/", b""))
        for entry in entries:
            path = prefix + entry.name
            if entry.is_tree and _FOLDER.fullmatch(entry.name) and digits + 2 < width:
                self._collect(entry.id, path + b"/", found)
            elif entry.raw_mode in _PLAIN_FILES and re.fullmatch(
                rb"[0-9a-f]{%d}" % (width - digits), entry.name
            ):
                found.setdefault(path.replace(b"/", b"").decode("ascii"), []).append(entry.id)
            else:
                self._strange.append(path)

    def _entries(self, tree: str) -> list[TreeEntry]:
        store = self.repository.store
        return parse_tree(read_tree(store, tree), store.hash_size)


def blob_lines(store: ObjectStore, blob: str) -> list[bytes] | None:
    """The lines of one note; ``None`` when it is larger than a note is read."""
    kind, size = store.header(blob)
    if kind != "blob" or size > LARGEST_NOTE:
        return None
    return [line for line in store.read(blob)[1].split(b"\n") if line.strip()]


def objections(old: NotesAt, new: NotesAt) -> Iterator[tuple[bytes, str]]:
    """What speaks against replacing the notes `old` by the notes `new`: a place in them and a sentence.

    Raises:
        RepositoryError: An object is missing.
    """
    known = set(old.strange)
    yield from ((path, "it is not a note") for path in new.strange if path not in known)
    store = new.repository.store
    for name in dict.fromkeys((*old.blobs, *new.blobs)):
        before, after = old.blobs.get(name, []), new.blobs.get(name, [])
        if set(before) == set(after):
            continue
        old.check()
        was = _all_lines(store, before)
        lines = [blob_lines(store, blob) for blob in after]
        if None in lines:
            yield name.encode(), f"the note is no blob of at most {LARGEST_NOTE:,} bytes"
            continue
        becomes = {line for some in lines for line in some or ()}
        if was - becomes:
            yield name.encode(), f"{len(was - becomes):,} of its lines would be lost"
        if not all(_is_envelope(line) for line in becomes - was):
            yield name.encode(), "a line that is added is no envelope"


def _all_lines(store: ObjectStore, blobs: Iterable[str]) -> set[bytes]:
    return {line for blob in blobs for line in blob_lines(store, blob) or ()}


def _is_envelope(line: bytes) -> bool:
    try:
        Envelope.parse(line)
    except FormatError:
        return False
    return True
