"""The data folder: there, ours, writable, durable, with room, and on one file system. Nothing is left behind in it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from safeai_git.governor.doctor.case import Case, size_of
from safeai_git.governor.doctor.report import Examined
from safeai_git.governor.service import LEAST_FREE
from safeai_git.governor.stores.file import HEAD, RESERVE
from safeai_git.governor.stores.lock import LOCK, LOG

_FLEETING = frozenset({"tmpfs", "ramfs", "overlay", "aufs"})
_REMOTE = frozenset({"nfs", "cifs", "smb3", "9p", "fuse.sshfs"})
_COMFORT = 1 << 30


def examine(case: Case) -> Iterator[Examined]:
    """Look at the folder."""
    path = case.settings.data_dir
    name = "data folder"
    shown = f"{path.absolute()} (SAFEAI_DATA_DIR)"
    try:
        status = path.stat()
    except OSError as error:
        yield Examined(name, "bad", f"{shown}: {error.strerror or error}", "make it, or set SAFEAI_DATA_DIR")
        return
    if not stat.S_ISDIR(status.st_mode):
        yield Examined(name, "bad", f"{shown} is no folder", "set SAFEAI_DATA_DIR to one")
        return
    mode = stat.S_IMODE(status.st_mode)
    yield Examined(name, "ok", f"{shown}, owner {status.st_uid}, mode {mode:04o}")
    yield from _permissions(path, status.st_uid, mode)
    yield from _kind(path)
    yield from _room(case, path)
    yield from _same_file_system(path, status.st_dev)
    yield _syncs(path)


def _permissions(path: Path, owner: int, mode: int) -> Iterator[Examined]:
    name, me = "data folder", os.geteuid()
    if me == 0 and owner != 0:
        yield Examined(
            name,
            "unknown",
            f"this runs as root, who may do everything; the folder belongs to user id {owner}",
            f"run it as the server's user: setpriv --reuid {owner} --clear-groups safeai doctor",
        )
    elif not os.access(path, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        yield Examined(
            name,
            "bad",
            f"user id {me} may not write into {path} (owner {owner}, mode {mode:04o})",
            f"chown {me} {path}, or run the Governor as user id {owner}; a read-only mount cannot hold a log",
        )
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        yield Examined(
            name,
            "bad",
            f"everybody on this machine may exchange the log (mode {mode:04o})",
            f"chmod o-w {path}",
        )


def _kind(path: Path) -> Iterator[Examined]:
    kind = file_system(path)
    if kind in _FLEETING:
        yield Examined(
            "file system",
            "warn",
            f"{path} is on {kind}: what is written there is gone with this container or machine",
            "mount a volume at SAFEAI_DATA_DIR",
        )
    elif kind in _REMOTE:
        yield Examined(
            "file system",
            "warn",
            f"{path} is on {kind}, whose locks do not keep a second Governor out",
            "use a local disk or a block volume; several replicas need PostgreSQL",
        )
    else:
        yield Examined("file system", "ok", kind or "its kind cannot be told here")


def file_system(path: Path) -> str:
    """The kind of file system that a path is on; empty where the kernel does not say."""
    try:
        rows = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        device = path.stat().st_dev
    except OSError:
        return ""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for row in reversed(rows):
        words, _, rest = row.partition(" - ")
        if words.split()[2] == wanted:
            return rest.split()[0]
    return ""


def _room(case: Case, path: Path) -> Iterator[Examined]:
    found = os.statvfs(path)
    free = found.f_bavail * found.f_frsize
    least = LEAST_FREE if case.settings.database_url else RESERVE
    if free < least:
        yield Examined(
            "disk",
            "bad",
            f"{size_of(free)} are free, and {size_of(least)} stay in reserve: nothing is taken",
            "make room; the log must not be cut",
        )
    elif free < least + _COMFORT:
        yield Examined(
            "disk",
            "warn",
            f"{size_of(free)} are free; at {size_of(least)} the log ends",
            "enlarge the volume",
        )
    else:
        yield Examined("disk", "ok", f"{size_of(free)} are free; {size_of(least)} stay in reserve")
    if found.f_files and found.f_favail < 1_000:
        yield Examined(
            "disk", "bad", f"{found.f_favail:,} inodes are free", "remove files that nobody needs there"
        )
    if found.f_flag & os.ST_RDONLY:
        yield Examined("disk", "bad", f"{path} is mounted read-only", "mount it for writing")


def _same_file_system(path: Path, device: int) -> Iterator[Examined]:
    """What is exchanged by renaming has to lie where its folder lies."""
    for part in (LOG, HEAD, LOCK, "witnessed", "quarantine", "search.sqlite"):
        try:
            status = (path / part).lstat()
        except OSError:
            continue
        if stat.S_ISLNK(status.st_mode):
            yield Examined(
                "data folder", "bad", f"{path / part} is a symbolic link", "put what it leads to in its place"
            )
        elif status.st_dev != device:
            yield Examined(
                "data folder",
                "bad" if part in (LOG, HEAD) else "warn",
                f"{path / part} is mounted on its own: it cannot be exchanged at one stroke, and free space is measured elsewhere",
                "mount the whole folder",
            )


def _syncs(path: Path) -> Examined:
    """Write and sync a file that never has a name."""
    try:
        descriptor = os.open(path, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            return Examined(
                "sync", "unknown", f"this file system has no files without a name: {path} was not written to"
            )
        return Examined(
            "sync", "bad", f"nothing can be written in {path}: {error.strerror or error}", "see above"
        )
    try:
        os.write(descriptor, b"safeai doctor\n")
        os.fdatasync(descriptor)
    except OSError as error:
        return Examined(
            "sync",
            "bad",
            f"what is written in {path} cannot be made durable: {error.strerror or error}",
            "find out what is wrong with the disk, its quota or the volume",
        )
    finally:
        os.close(descriptor)
    return Examined("sync", "ok", "a file was written and synced")
