"""A file of the working tree as an edit: two trees that differ in nothing but its content.

What is written for that goes to a temporary folder; the repository gets no object of an edit that may never be made.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from safeai_git.core.objects import TreeEntry, format_tree, parse_tree, tree_order
from safeai_git.git.changes import EMPTY_TREE
from safeai_git.git.repository import Repository
from safeai_git.git.store import ObjectStore, read_tree


@contextmanager
def scratch_objects(repository: Repository) -> Iterator[Repository]:
    """The same repository, whose new objects go to a folder that is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="safeai-edit-") as folder:
        places = {
            "GIT_OBJECT_DIRECTORY": folder,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": os.fspath(repository.object_directory),
        }
        other = replace(
            repository,
            object_directory=Path(folder),
            environ={**repository.environ, **places},
        )
        other._store = None  # noqa: SLF001 - a copy with a store of its own
        try:
            yield other
        finally:
            other.close()


def with_file(store: ObjectStore, tree: str, path: bytes, content: bytes) -> str:
    """The tree that holds `content` at `path` and is otherwise as it was; a file keeps its mode, a new one is plain.

    Args:
        store: Where the objects are, and where new ones go.
        tree: Name of a tree, in hex.
        path: From the root; its components may be anything, judging them is not done here.
        content: Of the file.
    """
    first, _, rest = path.partition(b"/")
    there = [] if tree == EMPTY_TREE else parse_tree(read_tree(store, tree), store.hash_size)
    old = next((one for one in there if one.name == first), None)
    if rest:
        below = old.id if old is not None and old.is_tree else EMPTY_TREE
        mode, name = b"40000", with_file(store, below, rest, content)
    else:
        kept = old is not None and not old.is_tree and old.mode & 0o170000 == 0o100000
        mode = old.raw_mode if old is not None and kept else b"100644"
        name = store.write("blob", content)
    entry = TreeEntry(mode, first, bytes.fromhex(name))
    others = [one for one in there if one.name != first]
    return store.write("tree", format_tree(sorted([*others, entry], key=tree_order)))
