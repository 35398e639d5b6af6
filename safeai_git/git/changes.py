"""Which paths differ between two trees: our own comparison of raw tree objects.

Same answer as ``git diff-tree -r -z --raw --no-renames``, but no configuration, attribute or ``.gitmodules`` is
consulted (``ignore = all`` there hides a submodule's change from git's own plumbing), and what git would not have
written is reported on the way. Equal subtrees are never opened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from safeai_git.core.edit import Collision, Malformation
from safeai_git.core.errors import FormatError
from safeai_git.core.objects import TreeEntry, parse_tree, tree_problems
from safeai_git.core.paths import fold
from safeai_git.git.store import ObjectStore, read_tree

EMPTY_TREE = ""
"""Stands for a tree without entries, on either side."""

MOST_PATHS = 100_000
"""Changed paths after which the comparison stops; what it returns then says so."""

MOST_FOLDERS = 100_000
"""Differing folders after which the comparison stops, for trees that hold nothing but folders."""

MOST_PATH_BYTES = 8 * 1024 * 1024
"""Bytes of all differing paths and folders together after which it stops, for names that are all too long."""

MOST_REMARKS = 1_000
"""Malformations, and collisions, that are collected; one is enough to refuse a change."""

LONGEST = 1024 * 1024
"""Bytes of one path after which a tree is reported as malformed."""

DEEPEST = 512
"""Folders within folders after which a tree is reported as malformed."""


class Side(NamedTuple):
    """One side of a changed path: mode and object name in hex."""

    mode: int
    id: str


class Change(NamedTuple):
    """One changed path; ``None`` on the side where it does not exist."""

    path: bytes
    old: Side | None
    new: Side | None


@dataclass(slots=True)
class Changes:
    """The outcome of a comparison.

    ``complete`` is false when one of the bounds was reached: then ``changes`` holds only the first of them.
    """

    changes: list[Change] = field(default_factory=list)
    malformations: list[Malformation] = field(default_factory=list)
    collisions: list[Collision] = field(default_factory=list)
    complete: bool = True
    path_bytes: int = 0


class TreeComparer:
    """Compares trees of one store; keeps the trees that it parsed, since neighbouring commits share most of them."""

    _MOST_KEPT_ENTRIES = 1_000_000
    _MOST_NAMED = 64

    def __init__(self, store: ObjectStore, *, check: Callable[[], None] = lambda: None) -> None:
        self.store = store
        self._check = check
        self._kept: dict[str, list[TreeEntry]] = {}
        self._kept_entries = 0
        self._names: dict[str, dict[bytes, TreeEntry]] = {}

    def entry(self, name: str, wanted: bytes) -> TreeEntry | None:
        """One entry of a tree by its name, for whoever asks often; ``None`` when it is not there.

        Raises:
            FormatError: The object cannot be taken apart.
        """
        names = self._names.get(name)
        if names is None:
            if len(self._names) >= self._MOST_NAMED:
                self._names.clear()
            names = self._names[name] = {one.name: one for one in self.entries(name)}
        return names.get(wanted)

    def entries(self, name: str) -> list[TreeEntry]:
        """The entries of a tree, `EMPTY_TREE` included.

        Raises:
            FormatError: The object cannot be taken apart.
        """
        if name == EMPTY_TREE:
            return []
        found = self._kept.get(name)
        if found is None:
            found = parse_tree(read_tree(self.store, name), self.store.hash_size)
            if self._kept_entries > self._MOST_KEPT_ENTRIES:
                self._kept.clear()
                self._kept_entries = 0
            self._kept[name] = found
            self._kept_entries += len(found)
        return found

    def compare(
        self,
        old: str,
        new: str,
        *,
        most: int = MOST_PATHS,
        within: Callable[[bytes], object] = lambda _: True,
    ) -> Changes:
        """Everything that differs between two trees, in path order within each folder.

        Args:
            old: Name of a tree, or `EMPTY_TREE`.
            new: Likewise.
            most: How many changed paths to collect.
            within: Which entries of the root to look at; all of them, unless said otherwise.

        Raises:
            ObjectMissing, ObjectCorrupt: A tree that differs cannot be read.
        """
        found = Changes()
        pending = [(b"", old, new)]
        opened = 0
        while pending:
            self._check()
            prefix, old_tree, new_tree = pending.pop()
            if old_tree == new_tree:
                continue
            if prefix.count(b"/") > DEEPEST:
                found.malformations.append(
                    Malformation(prefix.rstrip(b"/"), f"more than {DEEPEST} folders deep")
                )
                continue
            pending += reversed(self._compare_folder(prefix, old_tree, new_tree, found, within))
            opened += 1
            if (
                len(found.changes) > most
                or opened + len(pending) > MOST_FOLDERS
                or found.path_bytes > MOST_PATH_BYTES
                or len(found.malformations) > MOST_REMARKS
            ):
                del found.changes[most:], found.malformations[MOST_REMARKS:]
                found.complete = False
                break
        del found.collisions[MOST_REMARKS:]
        return found

    def _compare_folder(
        self, prefix: bytes, old: str, new: str, found: Changes, within: Callable[[bytes], object]
    ) -> list[tuple[bytes, str, str]]:
        where = prefix.rstrip(b"/")
        try:
            new_entries = self.entries(new)
            old_entries = self.entries(old)
        except FormatError as error:
            found.malformations.append(Malformation(where, error.message))
            return []
        common = frozenset(old_entries)
        found.malformations += [
            Malformation(prefix + name, what) for name, what in tree_problems(new_entries, common) if new
        ]
        gone = {entry.name: entry for entry in set(old_entries).difference(new_entries)}
        came = {entry.name: entry for entry in set(new_entries).difference(old_entries)}
        added = came.keys() - {entry.name for entry in old_entries}
        if added:
            found.collisions += _collisions(prefix, added, new_entries)
        folders: list[tuple[bytes, str, str]] = []
        for name in sorted(gone.keys() | came.keys()):
            if not prefix and not within(name):
                continue
            before, after = gone.get(name), came.get(name)
            path = prefix + name
            if len(path) > LONGEST:
                found.malformations.append(Malformation(where, f"holds a path of {len(path):,} bytes"))
                continue
            found.path_bytes += len(path)
            old_folder = before.id if before is not None and before.is_tree else EMPTY_TREE
            new_folder = after.id if after is not None and after.is_tree else EMPTY_TREE
            if old_folder or new_folder:
                folders.append((path + b"/", old_folder, new_folder))
            old_side = Side(_canonical(before.mode), before.id) if before and not old_folder else None
            new_side = Side(_canonical(after.mode), after.id) if after and not new_folder else None
            if old_side != new_side:
                found.changes.append(Change(path, old_side, new_side))
        return folders


def _canonical(mode: int) -> int:
    """The mode that git makes of a recorded one (git, ``cache.h``, ``canon_mode``); a malformation tells the rest."""
    kind = mode & 0o170000
    if kind == 0o100000:
        return 0o100755 if mode & 0o100 else 0o100644
    return kind if kind in (0o120000, 0o040000) else 0o160000


def _collisions(prefix: bytes, added: set[bytes], entries: list[TreeEntry]) -> list[Collision]:
    folded: dict[bytes, list[bytes]] = {}
    for entry in entries:
        folded.setdefault(fold(entry.name), []).append(entry.name)
    collisions: list[Collision] = []
    for names in folded.values():
        if len(names) > 1:
            # One for each added name: names that all fold alike would make as many pairs as their square.
            first, second = prefix + names[0], prefix + names[1]
            collisions += [
                Collision(prefix + name, second if name == names[0] else first)
                for name in names
                if name in added
            ]
    return collisions[:MOST_REMARKS]
