"""What a running sandbox uses: memory of its processes, and what it wrote.

Without a cgroup no kernel limit covers the memory of several processes together or the number of files, so both are
looked at again and again from outside. Cheap figures raise the suspicion, exact ones confirm it: resident memory
counts shared pages once per process (PSS does not), and a file system's fill level belongs to everybody on it.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from safeai_git.sandbox.layout import HOME, SHARED_MEMORY, TEMPORARY
from safeai_git.sandbox.port import Job

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_DEEPEST = 200
_BETWEEN_WALKS_SECONDS = 2.0
_SHARE_OF_TIME = 20
_PROC = Path("/proc")


class Usage:
    """Watches one job, from before it starts.

    Args:
        job: For its tree and its limits.
        more: Folders that count as the tree does.
        overlay: Where the job sees a tree of its own, whose bytes the kernel bounds; ``None`` where there is none.
    """

    def __init__(self, job: Job, more: tuple[Path, ...] = (), overlay: Path | None = None) -> None:
        limits = job.limits
        self._tree = job.tree
        self._more = more
        self._overlay = overlay
        self._own_folders = (TEMPORARY, HOME, SHARED_MEMORY, *([str(overlay)] if overlay else []))
        self._memory = limits.memory_bytes
        self._bytes = limits.scratch_bytes + job.tree_bytes + 4096 * job.tree_entries
        self._growth = limits.scratch_bytes
        self._files = limits.scratch_files
        self._entries = limits.scratch_files + job.tree_entries
        self._before = self._fill()
        self._shared_before = _meminfo()["Shmem"]
        self._next = 0.0
        self._next_walk = time.monotonic() + _BETWEEN_WALKS_SECONDS

    def exceeded(self, root: int) -> str | None:
        """The limit that is passed, as `Outcome.limit_hit` names it, looking only when it is time again.

        Args:
            root: Process id of the sandbox's first process, as the host numbers it.
        """
        begun = time.monotonic()
        if begun < self._next:
            return None
        pids = list(descendants(root))
        hit = self._memory_hit(pids) or self._scratch_hit(pids)
        ended = time.monotonic()
        self._next = ended + max(0.05, _SHARE_OF_TIME * (ended - begun))
        return hit

    def _memory_hit(self, pids: list[int]) -> str | None:
        resident = sum(map(_resident, pids))
        if resident > self._memory and sum(map(_proportional, pids)) > self._memory:
            return "memory"
        now = _meminfo()
        if now["Shmem"] - self._shared_before > self._memory:
            # Memory that is in no process: files without a name, or System V segments, which nothing attributes.
            # The latter are only held against the job when the machine itself runs short.
            nameless = sum(_nameless(pids).values())
            if resident + nameless > self._memory or now["MemAvailable"] < now["MemTotal"] // 20:
                return "memory"
        return None

    def _scratch_hit(self, pids: list[int]) -> str | None:
        if self._inodes(pids) > self._files:
            return "files"
        if self._overlay is not None:
            return None
        used, entries, low = self._fill()
        suspicious = used - self._before[0] > self._growth or entries - self._before[1] > self._files
        now = time.monotonic()
        if not suspicious and now < self._next_walk:
            return None
        found = measure(self._tree, *self._more, entries=self._entries, size=self._bytes)
        self._next_walk = time.monotonic() + max(
            _BETWEEN_WALKS_SECONDS, _SHARE_OF_TIME * (time.monotonic() - now)
        )
        if found.entries > self._entries or found.too_deep:
            return "files"
        if found.size > self._bytes:
            return "scratch"
        if suspicious:
            device = self._tree.stat().st_dev
            deleted = sum(size for (where, _), size in _nameless(pids).items() if where == device)
            if found.closed or low or found.size + deleted > self._bytes:
                return "scratch"
        return None

    def _fill(self) -> tuple[int, int, bool]:
        """Bytes and entries in use on the tree's file system, and whether less than a fiftieth of it is left."""
        found = os.statvfs(self._tree)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        return used, found.f_files - found.f_ffree, found.f_bavail < found.f_blocks // 50

    def _inodes(self, pids: list[int]) -> int:
        """Entries in the sandbox's own RAM-backed folders; bubblewrap can bound their bytes, not their number."""
        for pid in reversed(pids):
            with suppress(OSError):
                root = _PROC / str(pid) / "root"
                if root.stat().st_dev == Path("/").stat().st_dev:
                    continue  # looked at too early: still the host's root
                shown = [os.statvfs(f"{root}{folder}") for folder in self._own_folders]
                return sum(one.f_files - one.f_ffree for one in shown)
        return 0


def descendants(root: int) -> Iterator[int]:
    """The processes beneath one, not counting it. One that comes or goes meanwhile may be missed this time."""
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        with suppress(OSError), os.scandir(_PROC / str(pid) / "task") as tasks:
            for task in tasks:
                with suppress(OSError):
                    children = [int(child) for child in Path(task.path, "children").read_bytes().split()]
                    yield from children
                    waiting += children


def _meminfo() -> dict[str, int]:
    lines = (line.split() for line in (_PROC / "meminfo").read_text(encoding="ascii").splitlines())
    return {fields[0].rstrip(":"): int(fields[1]) * 1024 for fields in lines}


def _resident(pid: int) -> int:
    with suppress(OSError, IndexError):
        return int((_PROC / str(pid) / "statm").read_bytes().split()[1]) * _PAGE
    return 0


def _proportional(pid: int) -> int:
    """PSS; resident memory where the kernel does not tell, which errs against the job."""
    try:
        for line in (_PROC / str(pid) / "smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        return 0
    except OSError:
        pass
    return _resident(pid)


def _nameless(pids: list[int]) -> dict[tuple[int, int], int]:
    """Bytes of open files that have no name any more, or never had one, by device and inode."""
    found: dict[tuple[int, int], int] = {}
    for pid in pids:
        with suppress(OSError), os.scandir(_PROC / str(pid) / "fd") as descriptors:
            for one in descriptors:
                with suppress(OSError):
                    status = one.stat()
                    if stat.S_ISREG(status.st_mode) and status.st_nlink == 0:
                        found[status.st_dev, status.st_ino] = status.st_blocks * 512
    return found


class Measure:
    """What a walk found: ``entries``, ``size`` in bytes on disk; ``closed``: a folder could not be read."""

    def __init__(self) -> None:
        self.entries = 0
        self.size = 0
        self.closed = False
        self.too_deep = False


def measure(*trees: Path, entries: int, size: int) -> Measure:
    """Count trees beneath descriptors, following no link; stops as soon as one of the bounds is passed."""
    found = Measure()
    seen: set[tuple[int, int]] = set()
    for tree in trees:
        _measure(tree, found, seen, entries=entries, size=size)
    return found


def _measure(tree: Path, found: Measure, seen: set[tuple[int, int]], *, entries: int, size: int) -> None:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    open_folders: list[tuple[int, list[str]]] = []
    try:
        try:
            _enter(os.open(tree, flags), open_folders, found, seen)
        except PermissionError:
            found.closed = True
        while open_folders and found.entries <= entries and found.size <= size:
            folder, names = open_folders[-1]
            if not names:
                os.close(open_folders.pop()[0])
            elif len(open_folders) > _DEEPEST:
                found.too_deep = True
                break
            else:
                try:
                    below = os.open(names.pop(), flags, dir_fd=folder)
                except FileNotFoundError:
                    continue
                except OSError:
                    found.closed = True
                    continue
                _enter(below, open_folders, found, seen)
    finally:
        for folder, _ in open_folders:
            os.close(folder)


def _enter(
    folder: int, open_folders: list[tuple[int, list[str]]], found: Measure, seen: set[tuple[int, int]]
) -> None:
    names: list[str] = []
    open_folders.append((folder, names))
    with os.scandir(folder) as listing:
        for entry in listing:
            found.entries += 1
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    names.append(entry.name)
                else:
                    status = entry.stat(follow_symlinks=False)
                    if status.st_nlink > 1:
                        if (status.st_dev, status.st_ino) in seen:
                            continue
                        seen.add((status.st_dev, status.st_ino))
                    found.size += status.st_blocks * 512
