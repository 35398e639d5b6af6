"""Key files on disk: their names, reading a secret one, writing new ones.

A secret file is read only if it is a plain file, ours, and closed to everybody else; the check is made on the open
file, so it cannot be exchanged in between. Outside POSIX, where modes say nothing, only the kind of file is checked.
New files appear whole or not at all, and never in the place of another.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct

from safeai_git.core.errors import KeyUnusable, StorageError, WrongUse

MAX_BYTES = 16_384
"""Far more than any key file of a kind that we read."""

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_POSIX = os.name == "posix"
_READ = os.O_RDONLY
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
for _flag in ("O_CLOEXEC", "O_BINARY", "O_NOFOLLOW"):
    _READ |= getattr(os, _flag, 0)
    _CREATE |= getattr(os, _flag, 0)
_READ |= getattr(os, "O_NONBLOCK", 0)  # a FIFO in the place of a key must not hang us


def secret_path(directory: Path, name: str) -> Path:
    """Where the private key called ``name`` lies.

    Raises:
        WrongUse: The name has other characters than ``A-Z a-z 0-9 . _ -``, more than 64, or begins with a dot.
    """
    if not _NAME.fullmatch(name):
        raise WrongUse(
            f"a key cannot be called {name[:80]!a}",
            hint="use 1 to 64 of the characters A-Z a-z 0-9 . _ - and no dot in front",
        )
    return directory / f"ed25519.{name}.sk"


def public_path(directory: Path, name: str) -> Path:
    """Where the public key called ``name`` lies; checks the name as `secret_path` does."""
    return secret_path(directory, name).with_suffix(".pub")


def read_secret(path: Path) -> bytes:
    """Read a file that holds a private key.

    Raises:
        KeyUnusable: It is not there, cannot be read, is not a plain file, is not ours, is open to others, or is far
            too long for a key.
    """
    try:
        if not _POSIX and path.is_symlink():
            raise _symlink(path)
        descriptor = os.open(path, _READ)
        try:
            _check(path, os.fstat(descriptor))
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(MAX_BYTES + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise KeyUnusable(
            f"there is no private key {path}",
            hint="make one with 'safeai-git keys generate --key-id default', or name an existing one",
        ) from None
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) in (errno.ELOOP, errno.EMLINK):
            raise _symlink(path) from None
        raise KeyUnusable(f"the private key {path} cannot be read: {_reason(error)}") from error
    if len(data) > MAX_BYTES:
        raise KeyUnusable(f"{path} is longer than any private key ({MAX_BYTES:,} bytes)")
    return data


def _symlink(path: Path) -> KeyUnusable:
    return KeyUnusable(f"the private key {path} is a symbolic link", hint="name the file that it leads to")


def _check(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyUnusable(f"the private key {path} is not a plain file")
    if not _POSIX:
        return
    if status.st_uid != os.geteuid():
        raise KeyUnusable(
            f"the private key {path} belongs to user id {status.st_uid}, not to {os.geteuid()}, who runs this",
            hint="use a key of your own, or run as its owner",
        )
    if status.st_mode & 0o077:
        raise KeyUnusable(
            f"the private key {path} is open to others (mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"run 'chmod 600 {path}', and if others may have read it, make a new key",
        )


class NewFile(Struct, frozen=True):
    """A file to be made: where, what is in it, and who may read it."""

    path: Path
    data: bytes
    mode: int


def write_new(files: Iterable[NewFile]) -> None:
    """Make files that did not exist, all or none of them, durable when this returns.

    Raises:
        StorageError: One is there already or cannot be written; nothing is left behind.
    """
    files = tuple(files)
    with contextlib.ExitStack() as undo:
        for file in files:
            with _storing(file.path):
                file.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                # Takes the name, so that the replace below can only ever replace this empty file of ours.
                os.close(os.open(file.path, _CREATE, file.mode))
            undo.callback(file.path.unlink, missing_ok=True)
        for file in files:
            with _storing(file.path):
                _replace(file)
        undo.pop_all()


def _replace(file: NewFile) -> None:
    temporary = file.path.with_name(f".{file.path.name}.{os.urandom(8).hex()}")
    try:
        with open(os.open(temporary, _CREATE, file.mode), "wb") as stream:
            stream.write(file.data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file.path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if _POSIX:
        directory = os.open(file.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


@contextlib.contextmanager
def _storing(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise StorageError(
            f"{path} is there already and was left alone",
            hint="choose another --key-id, or move the old key away if nothing needs it any more",
        ) from None
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} could not be written: {_reason(error)}") from error


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
