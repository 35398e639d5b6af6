"""How much a tree holds, found out without walking all of it: for what is handed to libgit2 as a whole.

Ten trees of ten entries each can stand for ten thousand million files. Our own comparison stops at a bound; a merge in
libgit2 does not, so its inputs are counted first, each distinct tree once. Refuses what is beyond the bounds.
"""

from __future__ import annotations

from typing import NamedTuple

from safeai_git.core.errors import FormatError, RepositoryError
from safeai_git.core.objects import TreeEntry, parse_tree
from safeai_git.git.changes import DEEPEST
from safeai_git.git.store import ObjectStore, read_tree

MOST_ENTRIES = 2_000_000
"""Files and folders of a tree that is merged."""

MOST_NAME_BYTES = 512 * 1024 * 1024
"""Bytes of all their paths together."""


class Extent(NamedTuple):
    """Of a tree: its entries and their paths' bytes, folders included, and how deep it goes."""

    entries: int
    path_bytes: int
    depth: int


def require_mergeable(store: ObjectStore, root: str, known: dict[str, Extent]) -> None:
    """Refuse a tree that no merge could cope with.

    Args:
        store: Where it is.
        root: Its name.
        known: What was found out before; added to.

    Raises:
        RepositoryError: It holds too much, or cannot be taken apart.
    """
    try:
        extent = _measure(store, root, known)
    except FormatError as error:
        raise RepositoryError(f"tree {root[:12]} cannot be merged: {error.message}") from error
    if extent.entries > MOST_ENTRIES or extent.path_bytes > MOST_NAME_BYTES or extent.depth > DEEPEST:
        raise RepositoryError(
            f"tree {root[:12]} is too large to be merged: more than {MOST_ENTRIES:,} entries, or paths too long",
            hint="judge the commits one by one, and take out the one that brings it",
        )


def _measure(store: ObjectStore, root: str, known: dict[str, Extent]) -> Extent:
    pending: list[tuple[str, _Folder | None]] = [(root, None)]
    while pending:
        name, folder = pending.pop()
        if name in known:
            continue
        if folder is None:
            folder = _Folder.of(parse_tree(read_tree(store, name), store.hash_size))
            pending.append((name, folder))
            pending += [(below, None) for below in folder.below if below not in known]
        else:
            known[name] = folder.extent(known)
    return known[root]


class _Folder(NamedTuple):
    """A tree without its names, so that many can be kept: entries, bytes of names, and both for each tree below."""

    entries: int
    name_bytes: int
    below: dict[str, tuple[int, int]]

    @staticmethod
    def of(entries: list[TreeEntry]) -> _Folder:
        below: dict[str, tuple[int, int]] = {}
        for one in entries:
            if one.is_tree:
                times, size = below.get(one.id, (0, 0))
                below[one.id] = (times + 1, size + len(one.name))
        return _Folder(len(entries), sum(len(one.name) for one in entries), below)

    def extent(self, known: dict[str, Extent]) -> Extent:
        count, size, depth = self.entries, self.name_bytes, 1
        for name, (times, name_bytes) in self.below.items():
            inner = known[name]
            count += times * inner.entries
            size += times * inner.path_bytes + inner.entries * (name_bytes + times)
            depth = max(depth, inner.depth + 1)
        # Python's integers have no end, but a tree of trees could make them long.
        return Extent(min(count, MOST_ENTRIES + 1), min(size, MOST_NAME_BYTES + 1), depth)
