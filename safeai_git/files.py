"""Our own small files: written whole or not at all, durable when the call returns."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from safeai_git.core.errors import StorageError

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
