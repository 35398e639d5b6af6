"""Loose objects, taken apart here and not by libgit2: a file that lies about its size must not reach its C code.

libgit2 1.9 reads for ever where the compressed data is cut off (libgit2 #7342), and writes beyond its buffer where
there is more content than the header says (#7177). Whoever can write a file into an object folder, such as an agent
that works in the clone, could stop or take over whoever judges. So libgit2 is given packs and this backend; that an
object hashes to its name, and that no collision is hidden in it, libgit2 checks as ever.
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safeai_git.files import read_bounded
from safeai_git.git.native import ObjectType, pygit2

_TYPES = {
    b"commit": ObjectType.COMMIT,
    b"tree": ObjectType.TREE,
    b"blob": ObjectType.BLOB,
    b"tag": ObjectType.TAG,
}
_HEADER = re.compile(rb"(commit|tree|blob|tag) (0|[1-9][0-9]{0,17})\0")
_SMALL = 8_192
"""Bytes that are expanded at once: whatever has no more is then there."""
_FIRST = 4_096
"""Bytes of a file in which its header is found, whatever the compression."""

_MOST_KEPT = 500

_DEEPEST_ALTERNATE = 5  # git, object-file.c, link_alt_odb_entries; libgit2, odb.c
_LARGEST_ALTERNATES = 1024 * 1024
_OPENED = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # a pipe must not hold us


def object_folders(folders: tuple[Path, ...]) -> list[Path]:
    """Object folders with those that they borrow from (gitrepository-layout(5), ``objects/info/alternates``), each once."""
    found: dict[tuple[int, int], Path] = {}
    pending = [(folder, 0) for folder in reversed(folders)]
    while pending:
        folder, depth = pending.pop()
        try:
            there = folder.stat()
        except OSError:
            continue
        if (there.st_dev, there.st_ino) in found or not stat.S_ISDIR(there.st_mode):
            continue
        found[there.st_dev, there.st_ino] = folder
        if depth < _DEEPEST_ALTERNATE:
            pending += [(folder / line, depth + 1) for line in reversed(list(_borrowed(folder)))]
    return list(found.values())


def _borrowed(folder: Path) -> Iterator[str]:
    with suppress(OSError):
        for line in read_bounded(folder / "info" / "alternates", _LARGEST_ALTERNATES).splitlines():
            if line and not line.startswith(b"#") and b"\0" not in line:
                yield os.fsdecode(line)


class LooseObjects(pygit2.OdbBackend):
    """The loose objects of some folders, as a backend of libgit2's object database.

    Args:
        folders: From `object_folders`.

    An object that is small enough to be there whole with its header is kept for a moment: whoever asks for a size
    mostly asks for the content, too.
    """

    def __init__(self, folders: list[Path]) -> None:
        super().__init__()
        self._small: dict[str, tuple[int, bytes]] = {}
        self._folders = [os.fspath(folder) for folder in folders]

    def read_cb(self, oid: object) -> tuple[int, bytes]:
        """The type and the content.

        Raises:
            KeyError: It is in none of the folders.
            GitError: It is not what a file of an object is.
        """
        name = str(oid)
        if kept := self._small.pop(name, None):
            return kept
        with self._opened(name) as (file, length):
            first = os.read(file, _FIRST)
            begin, stream = _begin(name, first)
            kind, size, start = _header(name, begin)
            # what a file has beyond that is no object's; what it has not, there is no room to be kept for
            rest = os.read(file, min(2 * size + _FIRST, length)) if len(first) == _FIRST else b""
        try:
            # one byte more than there may be: what is too much shows, and is never expanded
            content = begin[start:] + stream.decompress(stream.unconsumed_tail + rest, size + 1)
        except zlib.error as error:
            raise pygit2.GitError(f"{name}: {error}") from None
        if len(content) != size or not stream.eof or stream.unused_data:
            raise pygit2.GitError(f"{name}: the file holds other than the {size:,} bytes that it says")
        return kind, content

    def read_prefix_cb(self, oid: object) -> tuple[int, bytes, object]:
        """`read_cb` for libgit2's other way to ask; names are whole here."""
        return *self.read_cb(oid), oid

    def read_header_cb(self, oid: object) -> tuple[int, int]:
        """The type and the size, as the file says; raises as `read_cb` does."""
        name = str(oid)
        with self._opened(name) as (file, length):
            first = os.read(file, _FIRST)
        begin, stream = _begin(name, first)
        kind, size, start = _header(name, begin)
        if len(first) == length and stream.eof and not stream.unused_data and len(begin) == start + size:
            if len(self._small) >= _MOST_KEPT:
                self._small.clear()
            self._small[name] = kind, begin[start:]
        return kind, size

    def exists_cb(self, oid: object) -> bool:
        """Whether one of the folders has a file of that name."""
        name = str(oid)
        if name in self._small:
            return True
        return any(os.path.exists(_place(folder, name)) for folder in self._folders)  # noqa: PTH110 - asked often

    def exists_prefix_cb(self, oid: object) -> object:
        """The name, if it is there."""
        if not self.exists_cb(oid):
            raise KeyError(str(oid))
        return oid

    def refresh_cb(self) -> None:
        """Nothing is remembered."""

    @contextmanager
    def _opened(self, name: str) -> Iterator[tuple[int, int]]:
        """The descriptor of an object's file, and its length."""
        for folder in self._folders:
            try:
                file = os.open(_place(folder, name), _OPENED)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:  # a folder, among others
                raise pygit2.GitError(f"{name}: {error.strerror}") from None
            try:
                found = os.fstat(file)
                if not stat.S_ISREG(found.st_mode):
                    raise pygit2.GitError(f"{name}: no plain file")
                yield file, found.st_size
            finally:
                os.close(file)
            return
        raise KeyError(name)


def _place(folder: str, name: str) -> str:
    return f"{folder}/{name[:2]}/{name[2:]}"


def _begin(name: str, first: bytes) -> tuple[bytes, Any]:
    """The expanded beginning of a file, and what expands the rest."""
    stream = zlib.decompressobj()
    try:
        return stream.decompress(first, _SMALL), stream
    except zlib.error as error:
        raise pygit2.GitError(f"{name}: {error}") from None


def _header(name: str, begin: bytes) -> tuple[int, int, int]:
    """The type, the size, and where the content starts (git, ``object-file.c``, ``parse_loose_header``)."""
    found = _HEADER.match(begin)
    if found is None:
        raise pygit2.GitError(f"{name}: the file does not begin as an object does")
    return _TYPES[found[1]], int(found[2]), found.end()
