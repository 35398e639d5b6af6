"""Writes a tree from its objects into an empty folder, without git.

Promises: the bytes of the blobs as recorded (no filter, no line ends, LFS pointers stay pointers), beneath a folder
held by descriptor, following no link: all regular files first, links last. Runs nothing. Refuses, before the first
write, names that walk (``.``, ``..``), address ``.git`` in any spelling or stand twice in a folder, entries that are
neither file, folder, link nor gitlink, and whatever is more than its limits.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from safeai_git.core.display import display
from safeai_git.core.edit import MODE_GITLINK, MODE_SYMLINK, MODE_TREE
from safeai_git.core.errors import CouldNotDecide, FormatError, ObjectCorrupt, StorageError
from safeai_git.core.objects import TreeEntry, parse_tree
from safeai_git.core.paths import fold
from safeai_git.sandbox.scratch import scratch_directory

__all__ = ["Materialised", "TreeLimits", "materialise", "scratch_directory"]

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
    total: int = 0
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
        root = os.open(destination, _folder_flags())
        try:
            _Writer(read, plan, progress or (lambda _done, _total: None)).write(root)
        finally:
            os.close(root)
    except OSError as error:
        raise StorageError(
            f"the tree {tree_id} cannot be written to {destination}: {error.strerror or error}",
            hint="check free space of the folder, and that its file system takes the tree's names",
        ) from error
    return Materialised(plan.files, plan.links, plan.folders, plan.gitlinks, plan.total)


def _survey(read: Read, tree_id: str, size: Size, limits: TreeLimits) -> _Plan:
    """Walk the tree objects, judge every name and sum up, without writing anything."""
    plan = _Plan(_Folder(b"", 0))
    waiting = [(tree_id, plan.root)]
    entries = 0
    while waiting:
        name, folder = waiting.pop()
        if folder.depth > limits.depth:
            raise CouldNotDecide(
                f"{display(folder.path)} is more than {limits.depth} folders deep", hint=_LARGER
            )
        if size(name) > limits.tree_bytes:
            raise CouldNotDecide(f"tree {name} is larger than {limits.tree_bytes:,} bytes", hint=_LARGER)
        kind, data = read(name)
        if kind != "tree":
            raise ObjectCorrupt(
                f"object {name} is a {kind} where a tree was expected", hint="run 'git fsck --full'"
            )
        found = parse_tree(data, len(name) // 2)
        entries += len(found)
        if entries > limits.entries:
            raise CouldNotDecide(f"the tree has more than {limits.entries:,} entries", hint=_LARGER)
        _check_names(found, folder)
        for entry in found:
            _sort_in(entry, folder, plan, size, limits)
        waiting += [
            (entry.id, below) for entry, (_, below) in zip(_trees(found), folder.folders, strict=True)
        ]
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
        plan.total += length
        if plan.total > limits.bytes:
            raise CouldNotDecide(
                f"the files of the tree are larger than {limits.bytes:,} bytes", hint=_LARGER
            )
    else:
        raise _malformed(
            folder, entry.name, f"an entry of mode {entry.mode:o}, which is no kind that git writes"
        )


class _Writer:
    """Writes a plan beneath an open folder."""

    def __init__(self, read: Read, plan: _Plan, progress: Progress) -> None:
        self._read = read
        self._plan = plan
        self._progress = progress
        self._done = 0

    def write(self, root: int) -> None:
        self._progress(0, self._plan.files)
        self._descend(root, self._plan.root, links=False)
        # Only now: nothing is written any more that could go through one.
        self._descend(root, self._plan.root, links=True)
        self._progress(self._plan.files, self._plan.files)

    def _descend(self, here: int, folder: _Folder, *, links: bool) -> None:
        if links:
            for entry in folder.links:
                os.symlink(self._content(entry), entry.name, dir_fd=here)
        else:
            for entry in folder.files:
                self._file(here, entry)
            for name in (*folder.gitlinks, *(name for name, _ in folder.folders)):
                os.mkdir(name, dir_fd=here)
        for name, below in folder.folders:
            descriptor = os.open(name, _folder_flags(), dir_fd=here)
            try:
                if not links:
                    os.fchmod(descriptor, 0o755)
                self._descend(descriptor, below, links=links)
            finally:
                os.close(descriptor)

    def _file(self, here: int, entry: TreeEntry) -> None:
        rest = memoryview(self._content(entry))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(entry.name, flags, 0o600, dir_fd=here)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fchmod(descriptor, 0o755 if entry.mode & stat.S_IXUSR else 0o644)
        finally:
            os.close(descriptor)
        self._done += 1
        if self._done % _BETWEEN_REPORTS == 0:
            self._progress(self._done, self._plan.files)

    def _content(self, entry: TreeEntry) -> bytes:
        kind, data = self._read(entry.id)
        if kind != "blob" or len(data) != self._plan.sizes[entry.raw_id]:
            raise ObjectCorrupt(
                f"object {entry.id} is a {kind} of {len(data):,} bytes, not the blob that was announced",
                hint="run 'git fsck --full'",
            )
        if stat.S_ISLNK(entry.mode) and (not data or b"\0" in data):
            raise FormatError(
                f"the tree cannot be written: link {display(entry.name)} leads to no path",
                hint="reject the commit",
            )
        return data


def _folder_flags() -> int:
    return os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _malformed(folder: _Folder, name: bytes, what: str) -> FormatError:
    return FormatError(
        f"the tree cannot be written: {display(folder.path + name)}: {what}", hint="reject the commit"
    )


def _too_large(folder: _Folder, entry: TreeEntry, length: int) -> CouldNotDecide:
    return CouldNotDecide(
        f"{display(folder.path + entry.name)} has {length:,} bytes, too many to write", hint=_LARGER
    )


def _check_room(parent: Path, plan: _Plan) -> None:
    found = os.statvfs(parent)
    needed = plan.total + _COST_OF_AN_ENTRY * (plan.files + plan.folders)
    free = found.f_bavail * found.f_frsize
    if needed > free:
        raise StorageError(
            f"the tree needs {needed:,} bytes and {parent} has {free:,} left",
            hint="free some space, or point TMPDIR at a larger folder",
        )
