"""Envelopes kept in git notes (``refs/notes/safeai``), one a line, on the commit or the tree that they are about.

A line is never changed and the order of lines has no meaning, so git's own ``cat_sort_uniq`` merges two histories of
these notes without loss. Writers that race each other retry: the ref moves only from the value that was read.

Notes are a means of transport. What an envelope is worth depends on its signature alone.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from safeai_git.core.errors import FormatError, RepositoryError, StorageError
from safeai_git.git.notes_tree import LARGEST_NOTE, entries, with_lines
from safeai_git.git.plumbing import GitFailed
from safeai_git.git.repository import NOTES_REF, REMOTE_NOTES, Repository
from safeai_git.git.store import read_commit

MOST_ENTRIES = 1_000_000
"""Entries of all trees of the notes together; equal subtrees count each time, or a tree could be a bomb."""

MOST_STRAY_LINES = 1_000
"""Lines of one note that are too short for an envelope and are handed out all the same."""

_SHORTEST_ENVELOPE = 200
_TRIES = 40
_SAME_LOCK = 8
"""Attempts that find the same lock, each after a tenth of a second (core.filesRefLockTimeout): git holds one for less."""

_NO_LOCK = (0, 0)
_HEX = frozenset(b"0123456789abcdef")


class Notes:
    """The envelopes of this clone's own notes ref and of what was fetched from its remotes.

    Read once, and again after each write of this object's own. Writes go to the own ref.

    Args:
        repository: An open repository.
        ref: The own ref; another program's, to read `contents` from.
        fetched: The pattern of the refs under which fetching keeps others'.
    """

    def __init__(
        self, repository: Repository, ref: str = NOTES_REF, fetched: str = REMOTE_NOTES.format(remote="*")
    ) -> None:
        self._repository = repository
        self._ref = ref
        self._pattern = fetched
        self._index: dict[str, list[str]] | None = None
        # A commit and its tree have the same note, and whoever asks for one asks for the other next.
        self._last: tuple[str, list[bytes]] = "", []

    def lines(self, name: str) -> list[bytes]:
        """The lines of the notes on an object, in no particular order; empty when there is none.

        Of lines that can be no envelopes only the first are among them: a note may hold millions.
        """
        return [line for blob in self._found().get(name, ()) for line in _worth_reading(self._read(blob))]

    def contents(self, name: str) -> list[bytes]:
        """The notes on an object, each whole; none of those that are too large to be read."""
        store = self._repository.store
        blobs = dict.fromkeys(self._found().get(name, ()))
        return [store.read(blob)[1] for blob in blobs if store.header(blob)[1] <= LARGEST_NOTE]

    def annotated(self) -> Iterator[str]:
        """Names of all objects that have a note."""
        return iter(self._found())

    def add(self, name: str, new: Collection[bytes]) -> None:
        """Add lines to the note on an object; see `add_all`."""
        self.add_all({name: new})

    def add_all(self, new: Mapping[str, Collection[bytes]]) -> None:
        """Add lines to the notes on many objects in one update: all of them are there afterwards, or none.

        Lines that stand there already stay as they are.

        Args:
            new: Lines by the name of the object that they are about.

        Raises:
            StorageError: The ref could not be moved, because others kept moving it or because of the disk.
        """
        self._until_it_moved(lambda: self._try_to_add(new))

    def join(self, tip: str) -> None:
        """Bring every line of another history of these notes into our own, and that history with it.

        What ``git notes merge --strategy=cat_sort_uniq`` does, but for one thing: git moves the ref to its result
        whatever it points to by then (``builtin/notes.c``, ``merge``), and a verdict that another process kept
        meanwhile would be gone. Here the ref moves only from the value that was read.

        Args:
            tip: The commit of the other notes.

        Raises:
            StorageError: As for `add_all`.
        """
        self._until_it_moved(lambda: self._try_to_join(tip))

    def _until_it_moved(self, attempt: Callable[[], bool]) -> None:
        lock = self._repository.common_directory / f"{self._ref}.lock"
        seen: list[tuple[int, int]] = []
        try:
            for number in range(_TRIES):
                if attempt():
                    self._index = None
                    return
                seen = [*seen[1 - _SAME_LOCK :], _identity(lock)]
                if len(seen) == _SAME_LOCK and len(set(seen)) == 1 and seen[0] != _NO_LOCK:
                    raise StorageError(
                        f"{lock} does not go away, so {self._ref} cannot be moved",
                        hint="if no git is running here, one was killed and left it behind: delete it, then try again",
                    )
                time.sleep(random.uniform(0.0, 0.01 * (number + 1)))  # noqa: S311 - spreads writers, keeps no secret
        except (RepositoryError, FormatError) as error:
            raise StorageError(
                f"the verdict could not be stored in {self._ref}: {error.message}",
                hint="check free space and permissions of the repository's .git folder",
            ) from error
        raise StorageError(
            f"{self._ref} kept changing under {_TRIES} attempts to add to it", hint="try again"
        )

    def _try_to_add(self, new: Mapping[str, Collection[bytes]]) -> bool:
        old = self._repository.ref(self._ref)
        before = read_commit(self._repository.store, old).tree if old else ""
        tree = with_lines(self._repository.store, before, new)
        return tree == before or self._move(tree, old)

    def _try_to_join(self, theirs: str) -> bool:
        old = self._repository.ref(self._ref)
        if old == theirs or (old and self._is_ancestor(theirs, old)):
            return True
        ours, others = self._of([old]), self._of([theirs])
        forward = not old or self._is_ancestor(old, theirs)
        if forward and not self._missing(ours, others):
            return self._repository.update_ref(self._ref, theirs, old)
        before = read_commit(self._repository.store, old).tree if old else ""
        return self._move(
            with_lines(self._repository.store, before, self._missing(others, ours)), old, theirs
        )

    def _missing(self, there: dict[str, list[str]], here: dict[str, list[str]]) -> dict[str, set[bytes]]:
        """The lines of some notes that others do not have."""
        found: dict[str, set[bytes]] = {}
        for name, blobs in there.items():
            known = here.get(name, [])
            if set(blobs) - set(known):
                lines = {line for blob in blobs for line in self._read(blob)}
                lines -= {line for blob in known for line in self._read(blob)}
                if lines:
                    found[name] = lines
        return found

    def _is_ancestor(self, one: str, other: str) -> bool:
        try:
            self._repository.git(["merge-base", "--is-ancestor", one, other])
        except GitFailed as error:
            if error.status == 1:  # git-merge-base(1): it is not
                return False
            raise
        return True

    def _move(self, tree: str, old: str, *joined: str) -> bool:
        commit = self._repository.store.write("commit", self._commit(tree, [old, *joined]))
        return self._repository.update_ref(self._ref, commit, old)

    def _commit(self, tree: str, parents: list[str]) -> bytes:
        moment = int(time.time())
        who = f"safeai-git <safeai-git@localhost> {moment} +0000"
        named = "".join(f"parent {parent}\n" for parent in parents if parent)
        return f"tree {tree}\n{named}author {who}\ncommitter {who}\n\nNotes added by safeai-git\n".encode()

    def _read(self, blob: str) -> list[bytes]:
        if self._last[0] != blob:
            store = self._repository.store
            data = store.read(blob)[1] if store.header(blob)[1] <= LARGEST_NOTE else b""
            self._last = blob, [line for line in data.split(b"\n") if line.strip()]
        return self._last[1]

    def _found(self) -> dict[str, list[str]]:
        """Blobs by the object that they annotate."""
        if self._index is None:
            self._index = self._of([self._repository.ref(self._ref), *self._fetched()])
        return self._index

    def _fetched(self) -> list[str]:
        printed = self._repository.git(["for-each-ref", "--format=%(objectname)", self._pattern])
        return printed.decode("ascii").split()

    def _of(self, tips: list[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        width = self._repository.store.hash_size * 2
        left = MOST_ENTRIES
        pending = [
            (read_commit(self._repository.store, tip).tree, b"") for tip in dict.fromkeys(filter(None, tips))
        ]
        while pending:
            tree, prefix = pending.pop()
            try:
                here = entries(self._repository.store, tree)
            except FormatError:
                continue
            left -= len(here)
            if left < 0:
                raise RepositoryError(
                    f"the notes hold more than {MOST_ENTRIES:,} entries",
                    hint=f"look at what made {self._ref} so large; 'git update-ref -d {self._ref}' starts it afresh",
                )
            for entry in here:
                name = prefix + entry.name
                if not _HEX.issuperset(entry.name):
                    continue
                if entry.is_tree and len(entry.name) == 2 and len(name) < width:
                    pending.append((entry.id, name))
                elif len(name) == width and not entry.is_tree:
                    found.setdefault(os.fsdecode(name), []).append(entry.id)
        return found


def _identity(lock: Path) -> tuple[int, int]:
    try:
        found = lock.stat()
    except OSError:
        return _NO_LOCK
    return found.st_ino, found.st_mtime_ns


def _worth_reading(lines: list[bytes]) -> list[bytes]:
    stray = [line for line in lines if len(line) < _SHORTEST_ENVELOPE]
    return [line for line in lines if len(line) >= _SHORTEST_ENVELOPE] + stray[:MOST_STRAY_LINES]
