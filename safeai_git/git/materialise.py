"""Writes a tree from its objects into an empty folder, without git.

Promises: the bytes of the blobs as recorded (no filter, no line ends, LFS pointers stay pointers), beneath a folder
held by descriptor, following no link: all regular files first, links last. Runs nothing. Refuses, before the first
write, names that walk (``.``, ``..``), address ``.git`` in any spelling or stand twice in a folder, entries that are
neither file, folder, link nor gitlink, and whatever is more than its limits.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from safeai_git.core.display import display
from safeai_git.core.edit import MODE_GITLINK, MODE_SYMLINK, MODE_TREE
from safeai_git.core.errors import CouldNotDecide, FormatError, ObjectCorrupt, StorageError
from safeai_git.core.objects import TreeEntry, parse_tree
from safeai_git.core.paths import fold

Read = Callable[[str], tuple[str, bytes]]
Size = Callable[[str], int]
Progress = Callable[[int, int], None]

_KIND = 0o170000
_LONGEST_NAME = 255
_LONGEST_LINK = 4095
_BETWEEN_REPORTS = 500
_COST_OF_AN_ENTRY = 4096
_LARGER = "replay on a smaller tree, or leave the check to a machine with larger limits"


@dataclass(frozen=True, slots=True)
class TreeLimits:
    """How large a tree may be that is written.

    Attributes:
        entries: Files, links and folders together.
        bytes: Of all files.
        blob_bytes: Of one file, which is held in memory while it is written.
        tree_bytes: Of one tree object.
        depth: Folders below each other.
    """

    entries: int = 500_000
    bytes: int = 4 * 2**30
    blob_bytes: int = 512 * 2**20
    tree_bytes: int = 64 * 2**20
    depth: int = 128


@dataclass(frozen=True, slots=True)
class Materialised:
    """What was written.

    Attributes:
        files, links, folders, gitlinks: Their numbers; a gitlink becomes an empty folder.
        bytes: Of all files.
    """

    files: int
    links: int
    folders: int
    gitlinks: int
    bytes: int

    @property
    def entries(self) -> int:
        """Everything that has a name."""
        return self.files + self.links + self.folders + self.gitlinks


@dataclass(slots=True)
class _Folder:
    """A folder of the plan: where it hangs, and what is to be written into it."""

    path: bytes
    depth: int
    files: list[TreeEntry] = field(default_factory=list)
    links: list[TreeEntry] = field(default_factory=list)
    folders: list[tuple[bytes, _Folder]] = field(default_factory=list)
    gitlinks: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class _Plan:
    root: _Folder
    files: int = 0
    links: int = 0
    folders: int = 0
    gitlinks: int = 0
    bytes: int = 0
    sizes: dict[bytes, int] = field(default_factory=dict)


def materialise(
    read: Read,
    tree_id: str,
    destination: Path,
    *,
    size: Size,
    limits: TreeLimits | None = None,
    progress: Progress | None = None,
) -> Materialised:
    """Write a tree.

    Args:
        read: The type and content of an object by its name in hex; it verifies that they belong together.
        tree_id: Name of the tree, in hex.
        destination: A folder that does not exist yet; made with mode 0700.
        size: The size of an object in bytes, asked before it is read.
        limits: How large it may be.
        progress: Told how many files of how many are written, now and then.

    Raises:
        FormatError: The tree holds something that must not be written.
        CouldNotDecide: It is larger than the limits.
        StorageError: The file system does not take it.
        ObjectMissing, ObjectCorrupt: See `read`.
    """
    plan = _survey(read, tree_id, size, limits or TreeLimits())
    try:
        _check_room(destination.parent, plan)
        destination.mkdir(mode=0o700)
        descriptor = _open_folder(os.fspath(destination).encode("utf-8", "surrogateescape"), None)
        _write(descriptor, plan, _writer(read, plan, progress or (lambda _done, _total: None)))
        _link(destination, plan.root, read, plan.sizes)
    except OSError as error:
        raise StorageError(
            f"the tree {tree_id} cannot be written to {destination}: {error.strerror or error}",
            hint="check free space of the folder, and that its file system takes the tree's names",
        ) from error
    return Materialised(plan.files, plan.links, plan.folders, plan.gitlinks, plan.bytes)


def _survey(read: Read, tree_id: str, size: Size, limits: TreeLimits) -> _Plan:
    """Walk the tree objects, judge every name and sum up, without writing anything."""
    plan = _Plan(_Folder(b"", 0))
    waiting = [(tree_id, plan.root)]
    entries = 0
    while waiting:
        name, folder = waiting.pop()
        if folder.depth > limits.depth:
            raise CouldNotDecide(f"{display(folder.path)} is more than {limits.depth} folders deep", hint=_LARGER)
        if size(name) > limits.tree_bytes:
            raise CouldNotDecide(f"tree {name} is larger than {limits.tree_bytes:,} bytes", hint=_LARGER)
        kind, data = read(name)
        if kind != "tree":
            raise ObjectCorrupt(f"object {name} is a {kind} where a tree was expected", hint="run 'git fsck --full'")
        found = parse_tree(data, len(name) // 2)
        entries += len(found)
        if entries > limits.entries:
            raise CouldNotDecide(f"the tree has more than {limits.entries:,} entries", hint=_LARGER)
        _check_names(found, folder)
        for entry in found:
            _sort_in(entry, folder, plan, size, limits)
        waiting += [(entry.id, below) for entry, (_, below) in zip(_trees(found), folder.folders, strict=True)]
    return plan


def _trees(found: list[TreeEntry]) -> list[TreeEntry]:
    return [entry for entry in found if entry.is_tree]


def _check_names(found: list[TreeEntry], folder: _Folder) -> None:
    names: set[bytes] = set()
    for entry in found:
        name = entry.name
        if name in (b".", b"..") or b"/" in name:
            raise _malformed(folder, name, "a name that walks the tree instead of naming an entry")
        if len(name) > _LONGEST_NAME:
            raise _malformed(folder, name[:_LONGEST_NAME], f"a name of more than {_LONGEST_NAME} bytes")
        if (not name.isascii() or b"git" in name.lower()) and b".git" in fold(name).split(b"/"):
            raise _malformed(folder, name, "a name that some system takes for git's own folder")
        if name in names:
            raise _malformed(folder, name, "a name that stands twice in one folder")
        names.add(name)


def _sort_in(entry: TreeEntry, folder: _Folder, plan: _Plan, size: Size, limits: TreeLimits) -> None:
    kind = entry.mode & _KIND
    if kind == MODE_TREE:
        below = _Folder(folder.path + entry.name + b"/", folder.depth + 1)
        folder.folders.append((entry.name, below))
        plan.folders += 1
    elif kind == MODE_GITLINK:
        folder.gitlinks.append(entry.name)
        plan.gitlinks += 1
    elif kind in (stat.S_IFREG, MODE_SYMLINK):
        length = plan.sizes.get(entry.raw_id)
        if length is None:
            length = plan.sizes[entry.raw_id] = size(entry.id)
        link = kind == MODE_SYMLINK
        if length > (_LONGEST_LINK if link else limits.blob_bytes):
            raise _too_large(folder, entry, length)
        if link:
            folder.links.append(entry)
            plan.links += 1
            return
        folder.files.append(entry)
        plan.files += 1
        plan.bytes += length
        if plan.bytes > limits.bytes:
            raise CouldNotDecide(f"the files of the tree are larger than {limits.bytes:,} bytes", hint=_LARGER)
    else:
        raise _malformed(folder, entry.name, f"an entry of mode {entry.mode:o}, which is no kind that git writes")


def _malformed(folder: _Folder, name: bytes, what: str) -> FormatError:
    return FormatError(f"the tree cannot be written: {display(folder.path + name)}: {what}", hint="reject the commit")


def _too_large(folder: _Folder, entry: TreeEntry, length: int) -> CouldNotDecide:
    return CouldNotDecide(f"{display(folder.path + entry.name)} has {length:,} bytes, too many to write", hint=_LARGER)


def _check_room(parent: Path, plan: _Plan) -> None:
    found = os.statvfs(parent)
    needed = plan.bytes + _COST_OF_AN_ENTRY * (plan.files + plan.folders)
    free = found.f_bavail * found.f_frsize
    if needed > free:
        raise StorageError(
            f"the tree needs {needed:,} bytes and {parent} has {free:,} left",
            hint="free some space, or point TMPDIR at a larger folder",
        )
