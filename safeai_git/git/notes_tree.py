"""The tree of a notes ref, with lines added: what is written when verdicts are kept or two histories are joined.

Git reads notes in any mixture of layouts: the object's name as one entry, or spread over folders of two digits. What
is touched here is put below one folder, and taken out of every other place at which the same note stood.

Promises that no line that stood there is lost. Refuses notes that grew too large to be read back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from safeai_git.core.errors import StorageError
from safeai_git.core.objects import TreeEntry, format_tree, parse_tree, tree_order
from safeai_git.git.store import ObjectStore, read_tree

LARGEST_NOTE = 4 * 1024 * 1024
"""Bytes of one note above which it is left unread."""


def with_lines(store: ObjectStore, root: str, new: Mapping[str, Collection[bytes]]) -> str:
    """The tree that holds everything that `root` does, and the new lines.

    Each folder that changes is written once, however many notes change in it.

    Args:
        store: Where objects are read from and written to.
        root: The tree's name; empty where there are no notes yet.
        new: Lines without their end by the name of the object that they are about.

    Returns:
        The name of the tree: `root` itself when every line stands there already.

    Raises:
        StorageError: A note would be larger than `LARGEST_NOTE`.
        FormatError: A folder cannot be taken apart.
    """
    notes = Folder(store, entries(store, root))
    changed = False
    for name, lines in new.items():
        digits = name.encode("ascii")
        there = _all_lines(store, name, notes.find(digits))
        if there.issuperset(lines):
            continue
        content = b"".join(line + b"\n" for line in sorted(there.union(lines)))
        if len(content) > LARGEST_NOTE:
            raise _too_large(name)
        notes.take(digits)
        notes.put(digits, store.write("blob", content))
        changed = True
    return notes.write() if changed else root


def entries(store: ObjectStore, tree: str) -> list[TreeEntry]:
    """The entries of a tree; none for the empty name."""
    return parse_tree(read_tree(store, tree), store.hash_size) if tree else []


class Folder:
    """A folder of notes that is being changed. What lies below is opened when it is first asked for."""

    def __init__(self, store: ObjectStore, here: list[TreeEntry]) -> None:
        self._store = store
        self._here = here
        self._below: dict[bytes, Folder] = {}

    def find(self, digits: bytes) -> list[str]:
        """The blobs of one note, wherever they stand; more than one where a tree holds a name twice."""
        found = [entry.id for entry in self._here if entry.name == digits and not entry.is_tree]
        below = self._open(digits)
        return found + below.find(digits[2:]) if below else found

    def take(self, digits: bytes) -> None:
        """Take a note out of every place."""
        self._here = [entry for entry in self._here if entry.name != digits or entry.is_tree]
        below = self._open(digits)
        if below:
            below.take(digits[2:])

    def put(self, digits: bytes, blob: str) -> None:
        """Put a note below the folder of its first two digits."""
        below = self._open(digits) or self._below.setdefault(digits[:2], Folder(self._store, []))
        below._here.append(TreeEntry(b"100644", digits[2:], bytes.fromhex(blob)))  # noqa: SLF001 - of this class

    def write(self) -> str:
        """Write what was opened and return the folder's name; empty folders are left out."""
        here = list(self._here)
        for digits, below in self._below.items():
            if below._here or below._below:  # noqa: SLF001 - of this class
                here.append(TreeEntry(b"40000", digits, bytes.fromhex(below.write())))
        return self._store.write("tree", format_tree(sorted(here, key=tree_order)))

    def _open(self, digits: bytes) -> Folder | None:
        """The folder of a note's first two digits; ``None`` where there is none, or no digit would be left."""
        if len(digits) <= 2:
            return None
        name = digits[:2]
        if name not in self._below:
            trees = [entry for entry in self._here if entry.name == name and entry.is_tree]
            if not trees:
                return None
            self._here = [entry for entry in self._here if entry not in trees]
            inside = [one for tree in trees for one in entries(self._store, tree.id)]
            self._below[name] = Folder(self._store, inside)
        return self._below[name]


def _all_lines(store: ObjectStore, name: str, blobs: Iterable[str]) -> set[bytes]:
    found: set[bytes] = set()
    for blob in blobs:
        if store.header(blob)[1] > LARGEST_NOTE:
            raise _too_large(name)
        found.update(line for line in store.read(blob)[1].split(b"\n") if line.strip())
    return found


def _too_large(name: str) -> StorageError:
    return StorageError(
        f"the note on {name[:12]} would hold more than {LARGEST_NOTE:,} bytes, and nobody would read it",
        hint=f"look at it with 'git notes --ref safeai show {name[:12]}'; 'git notes --ref safeai remove' starts it afresh",
    )
