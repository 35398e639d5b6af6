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
from functools import lru_cache
from pathlib import Path

from safeai_git.core.display import display
from safeai_git.core.errors import FormatError, ObjectCorrupt, StorageError
from safeai_git.core.objects import TreeEntry
from safeai_git.git.division import divide, folders
from safeai_git.git.tree_look import Look
from safeai_git.git.tree_plan import Folder, Materialised, Plan, Read, Shared, Size, TreeLimits, survey
from safeai_git.sandbox.copies import in_two
from safeai_git.sandbox.scratch import scratch_directory

__all__ = ["Materialised", "TreeLimits", "materialise", "scratch_directory", "write_plan"]

Progress = Callable[[int, int], None]

_BETWEEN_REPORTS = 500
_COST_OF_AN_ENTRY = 4096
_EVERYTHING, _UNDIVIDED = -1, -2


def materialise(
    read: Read,
    tree_id: str,
    destination: Path,
    *,
    size: Size,
    limits: TreeLimits | None = None,
    progress: Progress | None = None,
    shared: Shared = lambda: True,
) -> Materialised:
    """Write a tree.

    Args:
        read: The type and content of an object by its name in hex; it verifies that they belong together.
        tree_id: Name of the tree, in hex.
        destination: A folder that does not exist yet; made with mode 0700.
        size: The size of an object in bytes, asked before it is read.
        limits: How large it may be.
        progress: Told how many files of how many are written, now and then.
        shared: Whether a copy of this process may read too (`ObjectStore.serves_many`); asked before one is made.

    Raises:
        FormatError: The tree holds something that must not be written.
        CouldNotDecide: It is larger than the limits.
        StorageError: The file system does not take it.
        ObjectMissing, ObjectCorrupt: See `read`.
    """
    plan = survey(read, tree_id, size, limits or TreeLimits(), shared)
    write_plan(read, plan, destination, what=f"the tree {tree_id}", progress=progress, shared=shared)
    return plan.counts


def write_plan(
    read: Read,
    plan: Plan,
    destination: Path,
    *,
    what: str,
    progress: Progress | None = None,
    owner: tuple[int, int] | None = None,
    look: Look | None = None,
    shared: Shared = lambda: True,
) -> None:
    """Write what was surveyed.

    Args:
        read: As for `materialise`.
        plan: What to write.
        destination: As for `materialise`.
        what: For messages.
        progress: As for `materialise`.
        owner: User and group that everything is given to; ``None`` for the caller's. Only root can do that.
        look: Is shown everything once nothing changes it any more.
        shared: As for `materialise`.

    Raises:
        StorageError, FormatError, ObjectMissing, ObjectCorrupt: As for `materialise`.
    """
    try:
        _check_room(destination.parent, plan)
        destination.mkdir(mode=0o700)
        root = os.open(destination, _folder_flags())
        try:
            _Writer(read, plan, progress or (lambda _done, _total: None), owner, look).write(root, shared)
        finally:
            os.close(root)
    except OSError as error:
        raise StorageError(
            f"{what} cannot be written to {destination}: {error.strerror or error}",
            hint="check free space of the folder, and that its file system takes the tree's names",
        ) from error


class _Writer:
    """Writes a plan beneath an open folder."""

    def __init__(
        self, read: Read, plan: Plan, progress: Progress, owner: tuple[int, int] | None, look: Look | None
    ) -> None:
        self._read = read
        self._plan = plan
        self._progress = progress
        self._owner = owner
        self._look = look
        self._done = 0

    def write(self, root: int, shared: Shared) -> None:
        self._progress(0, self._plan.files)
        if divide(self._plan, shared):
            self._descend(root, self._plan.root, _UNDIVIDED)
            in_two(lambda part: self._write_part(root, part), self._take_over)
        else:
            self._descend(root, self._plan.root, _EVERYTHING)
        # Only now: nothing is written any more that could go through one.
        if self._plan.links:
            self._write_links(root, self._plan.root)
        self._progress(self._plan.files, self._plan.files)

    def _write_part(self, root: int, part: int) -> int:
        """Write one part, and give back what a look at it adds up to."""
        before = self._look.total if self._look else 0
        self._descend(root, self._plan.root, part)
        return self._look.total - before if self._look else 0

    def _take_over(self, seen: int | None) -> None:
        """The other process has written its part; or it failed, and its objects are read once more to see why."""
        if seen is None:
            for folder in folders(self._plan.root):
                for entry in folder.files:
                    self._content(entry)
            raise StorageError("a part of the tree was not written", hint="try again")
        if self._look:
            self._look.total += seen

    def _descend(self, here: int, folder: Folder, work: int) -> None:
        """Write everything but links: all of it, what is not divided, or only one part."""
        below = folder.folders
        if work < 0:
            self._write_own(here, folder)
            below = [*below, *((name, Folder(folder.path + name + b"/", 0)) for name in folder.gitlinks)]
        for name, one in below:
            if one.part is not None and work not in (one.part, _EVERYTHING):
                continue
            inner = _EVERYTHING if one.part == work else work
            descriptor = os.open(name, _folder_flags(), dir_fd=here)
            try:
                if inner < 0:
                    os.fchmod(descriptor, 0o755)
                self._descend(descriptor, one, inner)
            finally:
                os.close(descriptor)
        if self._look and work < 0 and not folder.links:
            self._look.at(folder.path[:-1], os.fstat(here))

    def _write_own(self, here: int, folder: Folder) -> None:
        if self._owner:
            os.fchown(here, *self._owner)
        for entry in folder.files:
            self._file(here, folder, entry)
        for name in (*folder.gitlinks, *(name for name, _ in folder.folders)):
            os.mkdir(name, dir_fd=here)
        for name in folder.gone:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=here)  # overlayfs: hides what is below

    def _write_links(self, here: int, folder: Folder) -> None:
        for entry in folder.links:
            self._link(here, folder, entry)
        for name, one in folder.folders:
            if not any(below.links for below in folders(one)):
                continue
            descriptor = os.open(name, _folder_flags(), dir_fd=here)
            try:
                self._write_links(descriptor, one)
            finally:
                os.close(descriptor)
        if self._look and folder.links:
            self._look.at(folder.path[:-1], os.fstat(here))

    def _link(self, here: int, folder: Folder, entry: TreeEntry) -> None:
        target = self._content(entry)
        if not target or b"\0" in target:
            raise FormatError(
                f"the tree cannot be written: link {display(entry.name)} leads to no path",
                hint="reject the commit",
            )
        os.symlink(target, entry.name, dir_fd=here)
        if self._owner:
            os.chown(entry.name, *self._owner, dir_fd=here, follow_symlinks=False)
        if self._look:
            self._look.at(folder.path + entry.name, os.stat(entry.name, dir_fd=here, follow_symlinks=False))

    def _file(self, here: int, folder: Folder, entry: TreeEntry) -> None:
        rest = memoryview(self._content(entry))
        mode = _file_mode(entry.raw_mode)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(entry.name, flags, mode, dir_fd=here)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if self._owner:
                os.fchown(descriptor, *self._owner)
            found = os.fstat(descriptor)
            if found.st_mode & 0o7777 != mode:  # the process keeps some of it back (umask(2))
                os.fchmod(descriptor, mode)
                found = os.fstat(descriptor)
            if self._look:
                self._look.at(folder.path + entry.name, found)
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
        return data


@lru_cache(maxsize=64)
def _file_mode(raw_mode: bytes) -> int:
    return 0o755 if int(raw_mode, 8) & stat.S_IXUSR else 0o644


def _folder_flags() -> int:
    return os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _check_room(parent: Path, plan: Plan) -> None:
    found = os.statvfs(parent)
    needed = plan.total + _COST_OF_AN_ENTRY * (plan.files + plan.folders)
    free = found.f_bavail * found.f_frsize
    if needed > free:
        raise StorageError(
            f"the tree needs {needed:,} bytes and {parent} has {free:,} left",
            hint="free some space, or point TMPDIR at a larger folder",
        )
