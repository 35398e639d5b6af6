"""The lock that keeps a second process from a log's folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from safeai_git.core.display import safe_text
from safeai_git.core.errors import StorageError

LOG, LOCK = "audit.log", "audit.lock"


def locked(folder: Path) -> int:
    """Take the folder's lock; its descriptor.

    Raises:
        StorageError: Another process has it, or there is no such folder.
    """
    path = folder / LOCK
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StorageError(f"{path} cannot be opened: {error.strerror or error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
    except BlockingIOError:
        holder = safe_text(os.pread(lock, 200, 0).decode("utf-8", "surrogateescape").strip())
        os.close(lock)
        raise StorageError(
            f"another process appends to {folder / LOG}: {holder or 'it has not said which'}",
            hint="one process has the file at a time; several replicas need PostgreSQL (SAFEAI_DATABASE_URL)",
        ) from None
    except OSError as error:
        os.close(lock)
        raise StorageError(f"{path} cannot be locked: {error.strerror or error}") from error
    return lock
