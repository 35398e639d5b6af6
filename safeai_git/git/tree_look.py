"""Whether anything in a folder has changed since it was looked at last, told from the status of everything in it."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from pathlib import Path

_STATUS = struct.Struct("<QQQQQQqq")


class Look:
    """A digest over path, kind, owner, size, identity and times of everything in a tree, in any order.

    The time of the last change of a status cannot be set: whatever touches a file or a folder shows.
    """

    def __init__(self) -> None:
        self.total = 0
        """The sum of what each thing gives: two looks at different things add up."""

    @property
    def digest(self) -> str:
        """In hex."""
        return f"{self.total % 2**256:064x}"

    def at(self, path: bytes, found: os.stat_result) -> None:
        """Add something; it is not looked at again."""
        folder = stat.S_ISDIR(found.st_mode)
        status = _STATUS.pack(
            found.st_mode,
            found.st_uid,
            found.st_gid,
            0 if folder else found.st_size,
            found.st_ino,
            0 if folder else found.st_nlink,
            found.st_mtime_ns,
            found.st_ctime_ns,
        )
        one = hashlib.blake2b(status + path, digest_size=32).digest()
        self.total += int.from_bytes(one, "little")

    def walk(self, tree: Path) -> None:
        """Add a whole tree, following no link."""
        top = os.fsencode(tree)
        self.at(b"", os.lstat(top))
        waiting = [b""]
        while waiting:
            folder = waiting.pop()
            with os.scandir(top + b"/" + folder) as listing:
                for one in listing:
                    path = folder + one.name
                    self.at(path, one.stat(follow_symlinks=False))
                    if one.is_dir(follow_symlinks=False):
                        waiting.append(path + b"/")
