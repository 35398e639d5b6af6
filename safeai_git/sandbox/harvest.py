"""Reads what a job left in its tree, beneath a directory handle, once nothing of the job is running any more.

What lies there is hostile: no link is followed, nothing but plain files is read, and the size is bounded.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_PIECE = 1024 * 1024
_DEEPEST = 128


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is taken: ``entries`` with a name, ``bytes`` of files together."""

    entries: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Found:
    """Something in a folder: its path from there, its status, and the descriptor and name to reach it by."""

    path: str
    status: os.stat_result
    folder: int
    name: str


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
        try:
            while piece := os.read(file, _PIECE):
                size += len(piece)
                if size > most:
                    raise Unreadable(f"{path} has more than {most:,} bytes")
                found.update(piece)
        except OSError as error:
            raise Unreadable(f"{path}: {error.strerror}") from error
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


@contextmanager
def folder(place: Path) -> Iterator[int]:
    """A folder of our own by descriptor.

    Raises:
        OSError: It cannot be opened, or is a link.
    """
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def walk(root: int, path: str = "", depth: int = 0) -> Iterator[Found]:
    """Everything beneath a folder in a fixed order, each folder before what is in it. The descriptors are short-lived.

    Raises:
        Unreadable: It is nested too deep, or a folder cannot be read.
    """
    if depth > _DEEPEST:
        raise Unreadable(f"{path} is more than {_DEEPEST} folders deep")
    try:
        names = sorted(os.listdir(root))
        for name in names:
            status = os.stat(name, dir_fd=root, follow_symlinks=False)
            yield Found(path + name, status, root, name)
            if stat.S_ISDIR(status.st_mode):
                with beneath(root, name) as below:
                    yield from walk(below, f"{path}{name}/", depth + 1)
    except OSError as error:
        raise Unreadable(f"{path or 'the folder'}: {error.strerror}") from error


def copy(root: int, path: str, destination: Path, bounds: Bounds) -> None:
    """Copy a folder of the tree: plain files, folders and links as they are; nothing else is there in what is made.

    Kept are the bytes, whether a file is executable, and its time; no other permission.

    Args:
        root: Descriptor of the tree.
        path: From there, without detours.
        destination: A folder that is not there yet, in one that is.
        bounds: How much.

    Raises:
        Unreadable: It is missing, holds something else, or is larger.
        OSError: The copy cannot be written.
    """
    destination.mkdir()
    destination.chmod(0o755)  # whatever the umask: root's checks read it as somebody else
    entries, room = 0, bounds.bytes
    with beneath(root, path) as source:
        for found in walk(source):
            entries += 1
            room -= found.status.st_size if stat.S_ISREG(found.status.st_mode) else 0
            if entries > bounds.entries or room < 0:
                raise Unreadable(f"{path} has more than {bounds.entries:,} entries or {bounds.bytes:,} bytes")
            target = destination / found.path
            if stat.S_ISDIR(found.status.st_mode):
                target.mkdir()
                target.chmod(0o755)
            elif stat.S_ISLNK(found.status.st_mode):
                target.symlink_to(os.readlink(found.name, dir_fd=found.folder))
            else:
                _copy_file(found, target, path)


def _copy_file(found: Found, target: Path, path: str) -> None:
    with _opened(found.folder, found.name) as file:
        mode = 0o755 if found.status.st_mode & stat.S_IXUSR else 0o644
        made = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        os.fchmod(made, mode)
        with os.fdopen(made, "wb") as written, os.fdopen(os.dup(file), "rb") as source:
            shutil.copyfileobj(source, written, _PIECE)
            written.flush()
            if written.tell() != found.status.st_size:
                raise Unreadable(f"{path}/{found.path} changes while it is read")
            os.utime(written.fileno(), ns=(found.status.st_mtime_ns, found.status.st_mtime_ns))


def listing(root: int) -> str:
    """SHA-256, in hex, over the names, kinds and contents of everything beneath a folder.

    Raises:
        Unreadable: Something is no plain file, folder or link.
    """
    told = hashlib.sha256()
    for found in walk(root):
        mode = found.status.st_mode
        if stat.S_ISDIR(mode):
            content = b"folder"
        elif stat.S_ISLNK(mode):
            content = b"link " + os.fsencode(os.readlink(found.name, dir_fd=found.folder))
        else:
            kind = b"program " if mode & stat.S_IXUSR else b"file "
            content = kind + digest(found.folder, found.name, found.status.st_size)[0].encode()
        name = os.fsencode(found.path)
        told.update(b"%d %s%d %s" % (len(name), name, len(content), content))
    return told.hexdigest()


def stamp(root: int) -> str:
    """SHA-256, in hex, over what the kernel notes of everything beneath a folder; another after any change.

    Raises:
        Unreadable: It cannot be walked.
    """
    told = hashlib.sha256()
    for found in walk(root):
        one = found.status
        noted = (one.st_mode, one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino)
        told.update(os.fsencode(found.path) + b"\0" + " ".join(map(str, noted)).encode() + b"\n")
    return told.hexdigest()


def size(root: int) -> int:
    """Bytes of all files beneath a folder, and a page for each name."""
    return sum(found.status.st_size + 4096 for found in walk(root))
