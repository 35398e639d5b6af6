"""Our own small files: written whole or not at all, durable when the call returns."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safeai_git.core.errors import StorageError

if sys.platform != "win32":
    import fcntl

_BETWEEN_TRIES_SECONDS = 0.02

LARGEST_JSON = 4 * 1024 * 1024


def write_atomically(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write a file so that a reader finds the old content or the new, also after a crash.

    Temporary file beside it, fsync, rename, fsync of the folder (where the system can do that).

    Raises:
        StorageError: It could not be written; what was there is untouched.
    """
    # Whoever cleans up knows the name first: a signal may come right after the file was made.
    beside = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.chmod(mode)
        beside.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            beside.unlink()
        if isinstance(error, OSError):
            raise _cannot(path, error) from error
        raise


def sync_folder(path: Path) -> None:
    """Make a rename in a folder durable; a system that cannot open folders (Windows) does so by itself."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_bounded(path: Path, most: int) -> bytes:
    """A file's content, cut off one byte after `most`: whoever measures it sees that it is too large.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return file.read(most + 1)


@contextmanager
def alone(path: Path, *, wait: float = 0.0) -> Iterator[bool]:
    """Whether nobody else holds a lock file; the system lets go of it if we are killed.

    Where there are no such locks (Windows, some network file systems) nobody is kept out.

    Args:
        path: The lock file, made if need be; it is never removed.
        wait: Seconds to wait for whoever holds it.

    Raises:
        StorageError: The file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError as error:
        raise _cannot(path, error) from error
    try:
        until = time.monotonic() + wait
        while not (free := _locked(descriptor)) and time.monotonic() < until:
            time.sleep(_BETWEEN_TRIES_SECONDS)
        yield free
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, *, wait: float) -> Iterator[None]:
    """Hold a lock file (`alone`), for as long as the context lasts.

    Args:
        path: The lock file.
        wait: Seconds to wait for another process.

    Raises:
        StorageError: That one holds it for longer, or the file cannot be made.
    """
    with alone(path, wait=wait) as nobody_else:
        if not nobody_else:
            raise StorageError(
                f"{path} is held by another process for more than {wait:.0f} seconds",
                hint="end that process, then try again",
            )
        yield


def _locked(descriptor: int) -> bool:
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in {errno.EAGAIN, errno.EACCES, errno.EINTR}
    return True


def _cannot(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path} cannot be written: {error.strerror or error}",
        hint="check free space and permissions of its folder",
    )


def read_json(path: Path) -> Any:
    """The content of one of our own JSON files; ``None`` when it is missing, too large or not JSON."""
    try:
        data = read_bounded(path, LARGEST_JSON)
        return None if len(data) > LARGEST_JSON else json.loads(data)
    except (OSError, ValueError, RecursionError):
        return None
