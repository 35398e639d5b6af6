"""A file of the working tree as an edit: two trees that differ in nothing but its content.

What is written for that stays in memory; the repository gets no object of an edit that may never be made.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from safeai_git.core.objects import TreeEntry, format_tree, parse_tree, tree_order
from safeai_git.core.values import replace
from safeai_git.git.changes import EMPTY_TREE
from safeai_git.git.repository import Repository
from safeai_git.git.store import CatFileStore, ObjectStore, read_tree


class MemoryStore:
    """An `ObjectStore` whose new objects are kept in memory, above another one.

    Args:
        below: What everything else is read from.
    """

    def __init__(self, below: ObjectStore) -> None:
        self.hash_size = below.hash_size
        self._below = below
        self._own: dict[str, tuple[str, bytes]] = {}

    def read(self, name: str) -> tuple[str, bytes]:
        """See `ObjectStore.read`."""
        return self._own.get(name) or self._below.read(name)

    def header(self, name: str) -> tuple[str, int]:
        """See `ObjectStore.header`."""
        if (own := self._own.get(name)) is not None:
            return own[0], len(own[1])
        return self._below.header(name)

    def size(self, name: str) -> int:
        """See `ObjectStore.size`."""
        return self.header(name)[1]

    def exists(self, name: str) -> bool:
        """See `ObjectStore.exists`."""
        return name in self._own or self._below.exists(name)

    def write(self, kind: str, data: bytes) -> str:
        """See `ObjectStore.write`."""
        hashed = (hashlib.sha256 if self.hash_size == 32 else hashlib.sha1)(usedforsecurity=False)
        hashed.update(f"{kind} {len(data)}\0".encode("ascii") + data)
        name = hashed.hexdigest()
        self._own[name] = kind, data
        return name

    def keep_in(self, folder: Path) -> None:
        """Write what is kept in memory as loose objects into an object folder."""
        for name, (kind, data) in self._own.items():
            place = folder / name[:2] / name[2:]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(zlib.compress(f"{kind} {len(data)}\0".encode("ascii") + data))

    def serves_many(self) -> bool:
        """See `ObjectStore.serves_many`."""
        return False

    def close(self) -> None:
        """See `ObjectStore.close`."""
        self._below.close()


def above(repository: Repository) -> Repository:
    """The same repository, whose new objects are kept in memory; a few are soonest read through git."""
    git = CatFileStore(
        repository.git_directory, 32 if repository.object_format == "sha256" else 20, repository.environ
    )
    git.begin()
    return replace(repository, _store=MemoryStore(git))


class FileEdit(NamedTuple):
    """An edit of one file: its path from the root, its content before and after; ``None`` where it does not exist."""

    path: bytes
    before: bytes | None
    after: bytes | None


def with_file(store: ObjectStore, tree: str, path: bytes, content: bytes | None) -> str:
    """The tree that holds `content` at `path` and is otherwise as it was; a file keeps its mode, a new one is plain.

    Args:
        store: Where the objects are, and where new ones go.
        tree: Name of a tree, in hex.
        path: From the root; its components may be anything, judging them is not done here.
        content: Of the file; ``None`` takes it out, with folders that are empty then.

    Returns:
        The tree's name; `EMPTY_TREE` for one without entries.
    """

    def entry(old: TreeEntry | None, name: bytes) -> TreeEntry | None:
        if content is None:
            return None
        kept = old is not None and old.mode & 0o170000 == 0o100000
        mode = old.raw_mode if old is not None and kept else b"100644"
        return TreeEntry(mode, name, bytes.fromhex(store.write("blob", content)))

    return _with_entry(store, tree, path, entry)


def with_side(store: ObjectStore, tree: str, path: bytes, mode: int, name: str) -> str:
    """The tree that has the object `name` at `path` with a mode; with mode 0 it has nothing there. See `with_file`."""

    def entry(old: TreeEntry | None, last: bytes) -> TreeEntry | None:  # noqa: ARG001 - as `with_file` needs it
        return TreeEntry(b"%o" % mode, last, bytes.fromhex(name)) if mode else None

    return _with_entry(store, tree, path, entry)


def _with_entry(
    store: ObjectStore,
    tree: str,
    path: bytes,
    entry: Callable[[TreeEntry | None, bytes], TreeEntry | None],
) -> str:
    first, _, rest = path.partition(b"/")
    there = [] if tree == EMPTY_TREE else parse_tree(read_tree(store, tree), store.hash_size)
    old = next((one for one in there if one.name == first), None)
    if rest:
        below = _with_entry(store, old.id if old is not None and old.is_tree else EMPTY_TREE, rest, entry)
        new = TreeEntry(b"40000", first, bytes.fromhex(below)) if below else None
        if new is None and old is not None and not old.is_tree:
            return tree
    else:
        new = entry(old, first)
    entries = [one for one in there if one.name != first]
    if new is not None:
        entries = sorted([*entries, new], key=tree_order)
    return store.write("tree", format_tree(entries)) if entries else EMPTY_TREE
