"""Folders for what strangers send: gone when they were looked at, and after a crash when the next process starts."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safeai_git.core.errors import StorageError
from safeai_git.sandbox.scratch import remove_tree

_LOCK = "lock"


class Workspace:
    """A folder of this process's own in a folder that several may share.

    Whose process still runs has its folder locked; the others' are removed at the start.

    Args:
        folder: The shared folder, made if it is missing.

    Raises:
        StorageError: Nothing can be written there.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _lock(folder / _LOCK, fcntl.LOCK_EX):
                _remove_left_over(folder)
                self._own = Path(tempfile.mkdtemp(prefix="of-", dir=folder))
                self._held = os.open(self._own / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StorageError(
                f"{folder} cannot be used for what is to be judged: {error.strerror or error}",
                hint="check the folder's permissions and the free space",
            ) from error

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """An empty folder, removed afterwards.

        Raises:
            StorageError: There is no room for it, or it cannot be removed.
        """
        try:
            made = Path(tempfile.mkdtemp(prefix="bundle-", dir=self._own))
        except OSError as error:
            raise StorageError(f"no folder can be made in {self._own}: {error.strerror or error}") from error
        try:
            yield made
        finally:
            remove_tree(made)

    def close(self) -> None:
        """Remove this process's folder."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1
            remove_tree(self._own)


def _remove_left_over(folder: Path) -> None:
    for one in folder.glob("of-*"):
        # In use, or not ours to remove: what lies there must not keep the Governor from starting.
        with suppress(OSError, StorageError):
            if not one.is_symlink():
                with _lock(one / _LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    remove_tree(one)


@contextmanager
def _lock(path: Path, how: int) -> Iterator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, how)
        yield
    finally:
        os.close(handle)
