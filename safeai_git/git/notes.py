"""Envelopes kept in git notes (``refs/notes/safeai``), one a line, on the commit or the tree that they are about.

A line is never changed and the order of lines has no meaning, so git's own ``cat_sort_uniq`` merges two histories of
these notes without loss. Writers that race each other retry: the ref moves only from the value that was read.

Notes are a means of transport. What an envelope is worth depends on its signature alone.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator

from safeai_git.core.errors import FormatError, RepositoryError, StorageError
from safeai_git.core.objects import TreeEntry, format_tree, parse_tree, tree_order
from safeai_git.git.repository import NOTES_REF, REMOTE_NOTES, Repository
from safeai_git.git.store import read_commit, read_tree

LARGEST_NOTE = 4 * 1024 * 1024
"""Bytes of one note above which it is left unread."""

MOST_ENTRIES = 1_000_000
"""Entries of all trees of the notes together; equal subtrees count each time, or a tree could be a bomb."""

MOST_STRAY_LINES = 1_000
"""Lines of one note that are too short for an envelope and are handed out all the same."""

_SHORTEST_ENVELOPE = 200
_TRIES = 40
_HEX = frozenset(b"0123456789abcdef")


class Notes:
    """The envelopes of this clone's own notes ref and of what was fetched from its remotes.

    Read once, and again after each write of this object's own. Writes go to the own ref.
    """

    def __init__(self, repository: Repository, ref: str = NOTES_REF) -> None:
        self._repository = repository
        self._ref = ref
        self._index: dict[str, list[str]] | None = None

    def lines(self, name: str) -> list[bytes]:
        """The lines of the notes on an object, in no particular order; empty when there is none.

        Of lines that can be no envelopes only the first are among them: a note may hold millions.
        """
        return [line for blob in self._found().get(name, ()) for line in _worth_reading(self._read(blob))]

    def annotated(self) -> Iterator[str]:
        """Names of all objects that have a note."""
        yield from self._found()

    def add(self, name: str, new: list[bytes]) -> None:
        """Add lines to the note on an object; lines that stand there already stay as they are.

        Raises:
            StorageError: The ref could not be moved, because others kept moving it or because of the disk.
        """
        try:
            for attempt in range(_TRIES):
                if self._try_to_add(name, new):
                    return
                time.sleep(random.uniform(0.0, 0.01 * (attempt + 1)))  # noqa: S311 - spreads writers, keeps no secret
        except RepositoryError as error:
            raise StorageError(
                f"the verdict could not be stored in {self._ref}: {error.message}",
                hint="check free space and permissions of the repository's .git folder",
            ) from error
        raise StorageError(
            f"{self._ref} kept changing under {_TRIES} attempts to add to it", hint="try again"
        )

    def _try_to_add(self, name: str, new: list[bytes]) -> bool:
        store = self._repository.store
        old = self._repository.ref(self._ref)
        there = {line for blob in self._of([old]).get(name, ()) for line in self._read(blob)}
        if there.issuperset(new):
            return True
        blob = store.write("blob", b"".join(line + b"\n" for line in sorted(there.union(new))))
        root = self._with_note(read_commit(store, old).tree if old else "", name, blob)
        commit = store.write("commit", self._commit(root, old))
        self._index = None
        return self._repository.update_ref(self._ref, commit, old)

    def _with_note(self, root: str, name: str, blob: str) -> str:
        """Put a note into the tree: two digits of the object's name for the folder, the rest for the entry.

        Git reads any mixture of such layouts; every other place of the same note is taken out.
        """
        folder, rest = name[:2].encode(), name[2:].encode()
        entries = [entry for entry in self._entries(root) if entry.name != name.encode()]
        inner = next((entry for entry in entries if entry.name == folder and entry.is_tree), None)
        below = self._without(self._entries(inner.id) if inner else [], rest)
        below.append(TreeEntry(b"100644", rest, bytes.fromhex(blob)))
        written = self._write_tree(below)
        entries = [entry for entry in entries if entry is not inner]
        entries.append(TreeEntry(b"40000", folder, bytes.fromhex(written)))
        return self._write_tree(entries)

    def _without(self, entries: list[TreeEntry], rest: bytes) -> list[TreeEntry]:
        """Take a note out of a folder, and out of the deeper ones that git makes when there are very many."""
        kept: list[TreeEntry] = []
        for entry in entries:
            if entry.name == rest:
                continue
            if entry.is_tree and len(entry.name) == 2 and rest.startswith(entry.name):
                inner = self._without(self._entries(entry.id), rest[len(entry.name) :])
                if inner:
                    written = self._write_tree(inner)
                    kept.append(TreeEntry(b"40000", entry.name, bytes.fromhex(written)))
            else:
                kept.append(entry)
        return kept

    def _write_tree(self, entries: list[TreeEntry]) -> str:
        return self._repository.store.write("tree", format_tree(sorted(entries, key=tree_order)))

    def _entries(self, tree: str) -> list[TreeEntry]:
        store = self._repository.store
        return parse_tree(read_tree(store, tree), store.hash_size) if tree else []

    def _commit(self, tree: str, parent: str) -> bytes:
        moment = int(time.time())
        who = f"safeai-git <safeai-git@localhost> {moment} +0000"
        parents = f"parent {parent}\n" if parent else ""
        return f"tree {tree}\n{parents}author {who}\ncommitter {who}\n\nNotes added by safeai-git\n".encode()

    def _read(self, blob: str) -> list[bytes]:
        store = self._repository.store
        if store.header(blob)[1] > LARGEST_NOTE:
            return []
        return [line for line in store.read(blob)[1].split(b"\n") if line.strip()]

    def _found(self) -> dict[str, list[str]]:
        """Blobs by the object that they annotate."""
        if self._index is None:
            self._index = self._of([self._repository.ref(self._ref), *self._fetched()])
        return self._index

    def _fetched(self) -> list[str]:
        pattern = REMOTE_NOTES.format(remote="*")
        printed = self._repository.git(["for-each-ref", "--format=%(objectname)", pattern])
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
                entries = self._entries(tree)
            except FormatError:
                continue
            left -= len(entries)
            if left < 0:
                raise RepositoryError(
                    f"the notes hold more than {MOST_ENTRIES:,} entries",
                    hint=f"look at what made {self._ref} so large; 'git update-ref -d {self._ref}' starts it afresh",
                )
            for entry in entries:
                name = prefix + entry.name
                if not _HEX.issuperset(entry.name):
                    continue
                if entry.is_tree and len(entry.name) == 2 and len(name) < width:
                    pending.append((entry.id, name))
                elif len(name) == width and not entry.is_tree:
                    found.setdefault(os.fsdecode(name), []).append(entry.id)
        return found


def _worth_reading(lines: list[bytes]) -> list[bytes]:
    stray = [line for line in lines if len(line) < _SHORTEST_ENVELOPE]
    return [line for line in lines if len(line) >= _SHORTEST_ENVELOPE] + stray[:MOST_STRAY_LINES]
