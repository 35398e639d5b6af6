"""A private folder for a tree, in memory where that can be had, gone again afterwards.

Removal copes with what a hostile check leaves behind: folders without permissions, and folders nested deeper than any
path can name. It follows no link. Whoever has a folder holds a lock on it, so that what somebody left who was killed is
known for that, and goes when the next one is made.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from safeai_git.core.errors import StorageError

if sys.platform == "linux":
    import fcntl

_NAME = re.compile(r"safeai-[a-z0-9_]{8}")
"""As `tempfile` makes them."""

_LEFT_AFTER_SECONDS = 3_600
"""Age from which a folder that nobody holds was left behind: it is made a moment before it is held."""

_LEAST_ROOM = 256 * 2**20
_LEAST_ENTRIES = 20_000


@contextmanager
def scratch_directory(
    *, room: int = _LEAST_ROOM, entries: int = _LEAST_ENTRIES, environ: Mapping[str, str] | None = None
) -> Iterator[Path]:
    """A new folder, removed at the end, whatever the end is: an error or Ctrl-C too.

    Only its owner can enter it; root's can be passed through, not listed, since root runs checks as another user. What
    is put inside must keep others out itself.

    Args:
        room: Bytes that must be free for a place in memory to be used.
        entries: Files that it must be able to take.
        environ: Where ``XDG_RUNTIME_DIR`` and the temporary folder are looked up; by default the process's own.

    Raises:
        StorageError: No place can be written.
    """
    folder = _make(room, entries, os.environ if environ is None else environ)
    held = None
    try:
        held = _hold(folder)
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            folder.chmod(0o711)
        yield folder
    finally:
        try:
            remove_tree(folder)
        finally:
            if held is not None:
                os.close(held)


def _make(room: int, entries: int, environ: Mapping[str, str]) -> Path:
    for place in memory_places(environ):
        if suits(place, room, entries):
            with suppress(OSError):
                _remove_left(place)
                return Path(tempfile.mkdtemp(prefix="safeai-", dir=place))
    try:
        return Path(tempfile.mkdtemp(prefix="safeai-", dir=environ.get("TMPDIR")))
    except OSError as error:
        raise StorageError(
            f"no temporary folder can be made: {error}", hint="point TMPDIR at a folder that you can write"
        ) from error


def memory_places(environ: Mapping[str, str]) -> Iterator[Path]:
    """Folders of the system that lie in memory and that this user can write, if they are what they usually are."""
    # Root's own runtime folder lets no other user pass.
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/") and hasattr(os, "geteuid") and os.geteuid() != 0:
        yield Path(runtime)
    yield Path("/dev/shm")  # noqa: S108 - the system's folder in memory; a new folder is made in it


def suits(place: Path, room: int, entries: int) -> bool:
    """Whether it is writable, has so many bytes and entries left, and programs may be run from it."""
    try:
        found = os.statvfs(place)
    except (OSError, AttributeError):  # Windows has no statvfs
        return False
    return (
        os.access(place, os.W_OK | os.X_OK)
        and not found.f_flag & (os.ST_NOEXEC | os.ST_RDONLY)
        and found.f_bavail * found.f_frsize >= room
        and (found.f_files == 0 or found.f_favail >= entries)
    )


def _hold(folder: Path) -> int | None:
    """A descriptor that locks a folder until it is closed, by the system too; ``None`` when somebody else holds it.

    Also where folders cannot be locked: then nothing in that place is ever taken for left behind.
    """
    if sys.platform != "linux":
        return None
    try:
        handle = os.open(folder, _flags())
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _remove_left(place: Path) -> None:
    """Remove this user's folders in a place that nobody holds any more: whoever made them was killed."""
    if sys.platform != "linux":
        return
    names: list[str] = []
    with suppress(OSError):
        names = [one.name for one in place.iterdir() if _NAME.fullmatch(one.name)]
    for name in names:
        folder = place / name
        with suppress(OSError, StorageError):  # no reason not to begin
            there = folder.lstat()
            if there.st_uid != os.geteuid() or time.time() - there.st_mtime < _LEFT_AFTER_SECONDS:
                continue
            if (held := _hold(folder)) is not None:
                try:
                    remove_tree(folder)
                finally:
                    os.close(held)


def remove_tree(folder: Path) -> None:
    """Remove a folder and everything in it, where nothing is running any more.

    Folders below it are first moved up to its own level, so that no depth matters.

    Raises:
        StorageError: Something cannot be removed.
    """
    try:
        if os.rename in os.supports_dir_fd:
            if not folder.is_symlink():
                folder.chmod(0o700)
            top = os.open(folder, _flags())
            try:
                _remove_content(top)
            finally:
                os.close(top)
            folder.rmdir()
        else:
            shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"{folder} cannot be removed: {error}", hint="remove it by hand") from error


def _flags() -> int:
    return os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _remove_content(top: int) -> None:
    prefix = os.urandom(8).hex()
    moved = 0
    while folders := _unlink_files(top):
        for name in folders:
            here = os.open(name, _flags(), dir_fd=top)
            try:
                for below in _unlink_files(here):
                    moved += 1
                    os.rename(below, f"{prefix}-{moved}", src_dir_fd=here, dst_dir_fd=top)
            finally:
                os.close(here)
            os.rmdir(name, dir_fd=top)


def _unlink_files(here: int) -> list[str]:
    """Remove what is no folder; gives back the folders, made writable: only such can be opened and moved."""
    folders: list[str] = []
    with os.scandir(here) as listing:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in listing]
    for name, is_folder in names:
        if is_folder:
            os.chmod(name, 0o700, dir_fd=here)
            folders.append(name)
        else:
            os.unlink(name, dir_fd=here)
    return folders
