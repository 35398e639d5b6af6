"""A private folder for a tree, in memory where that can be had, gone again afterwards.

Removal copes with what a hostile check leaves behind: folders without permissions, and folders nested deeper than any
path can name. It follows no link.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from safeai_git.core.errors import StorageError

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
    try:
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            folder.chmod(0o711)
        yield folder
    finally:
        remove_tree(folder)


def _make(room: int, entries: int, environ: Mapping[str, str]) -> Path:
    for place in memory_places(environ):
        if suits(place, room, entries):
            with suppress(OSError):
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
