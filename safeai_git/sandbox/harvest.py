"""Reads what a job left in its tree, beneath a directory handle, once nothing of the job is running any more.

What lies there is hostile: no link is followed, nothing but plain files is read, and the size is bounded.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PIECE = 1024 * 1024


class Unreadable(Exception):
    """Something is not there, or is no plain file; the message says what."""


def digest(root: int, path: str, most: int) -> tuple[str, int]:
    """SHA-256, in hex, and size of a plain file.

    Args:
        root: Descriptor of the tree.
        path: From there, without detours.
        most: Bytes that it may have.

    Raises:
        Unreadable: It is missing, no plain file, reached through a link, unreadable or larger.
    """
    with _opened(root, path) as file:
        size, found = 0, hashlib.sha256()
        while piece := os.read(file, _PIECE):
            size += len(piece)
            if size > most:
                raise Unreadable(f"{path} has more than {most:,} bytes")
            found.update(piece)
        return found.hexdigest(), size


@contextmanager
def beneath(root: int, path: str) -> Iterator[int]:
    """A folder of the tree, opened one component at a time, through no link.

    Raises:
        Unreadable: It is missing or no folder.
    """
    here = os.dup(root)
    try:
        for name in path.split("/") if path else []:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                below = os.open(name, flags, dir_fd=here)
            except OSError as error:
                raise Unreadable(f"{path}: {error.strerror}") from error
            os.close(here)
            here = below
        yield here
    finally:
        with suppress(OSError):
            os.close(here)


@contextmanager
def _opened(root: int, path: str) -> Iterator[int]:
    folder, _, name = path.rpartition("/")
    with beneath(root, folder) as here:
        try:
            # without blocking: what lies there may be a pipe
            file = os.open(
                name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=here
            )
        except OSError as error:
            raise Unreadable(f"{path}: {error.strerror}") from error
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise Unreadable(f"{path} is no plain file")
            yield file
        finally:
            os.close(file)
