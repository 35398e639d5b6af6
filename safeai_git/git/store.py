"""The object store: objects by name, verified, and nothing else of the repository.

libgit2 is given the object folders alone (`libgit2`), so that nothing else can colour what is read; each object is
checked against its name as it is read. Repositories that libgit2 cannot serve (SHA-256), and the few objects that an
agent's hook needs, are read through ``git cat-file``, with the same promises: loading libgit2 takes longer than those.

An object store borrowed from elsewhere (alternates, a push's quarantine) is read too: a name is the hash of its
content, so it does not matter who keeps the bytes.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import weakref
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import IO, Protocol, cast

from safeai_git.core.errors import FormatError, ObjectCorrupt, ObjectMissing, RepositoryError
from safeai_git.core.objects import Commit, parse_commit
from safeai_git.git.plumbing import clean_environment, command_line

LARGEST_TREE = 16 * 1024 * 1024
LARGEST_COMMIT = 1024 * 1024
"""Bytes of one object above which it is not taken apart: a few bytes in a pack can stand for gigabytes."""

_PIECE = 1024 * 1024
"""Bytes that are asked for at a time: room for them is made before they are there."""

_LARGEST_KEPT = 4_096
_MOST_KEPT = 8_192
"""Commits that are kept parsed, of at most so many bytes each: whoever walks a history asks for each several times."""

_COMMITS: weakref.WeakKeyDictionary[ObjectStore, dict[str, Commit]] = weakref.WeakKeyDictionary()

MISSING_HINT = (
    "the clone is partial or damaged: 'git fetch --refetch --filter=blob:none' will not do; "
    "run 'git fetch --refetch' (or clone without --filter), then 'git fsck'"
)


class ObjectStore(Protocol):
    """Objects by name.

    ``hash_size`` is 20 or 32 bytes. Every method raises `ObjectMissing` or `ObjectCorrupt` for an object that cannot
    be had whole.
    """

    hash_size: int

    def read(self, name: str) -> tuple[str, bytes]:
        """The type (``commit``, ``tree``, ``blob``, ``tag``) and the content."""

    def header(self, name: str) -> tuple[str, int]:
        """The type and the size in bytes, without reading the content where that can be avoided."""

    def serves_many(self) -> bool:
        """Get ready for many questions; whether copies of this process (`parallel`) may ask them too."""

    def size(self, name: str) -> int:
        """The second half of `header`: asked for each file of a tree."""

    def write(self, kind: str, data: bytes) -> str:
        """Add an object to the repository's own store and return its name."""

    def exists(self, name: str) -> bool:
        """Whether the object is there."""

    def close(self) -> None:
        """Give back what the store holds open."""


class CatFileStore:
    """An `ObjectStore` over ``git cat-file --batch``, for what libgit2 cannot open."""

    def __init__(self, git_directory: Path, hash_size: int, environ: Mapping[str, str]) -> None:
        self.hash_size = hash_size
        self._directory = git_directory
        self._environment = clean_environment(environ) | {"GIT_DIR": os.fspath(git_directory)}
        self._hash = {20: hashlib.sha1, 32: hashlib.sha256}[hash_size]
        self._process: subprocess.Popen[bytes] | None = None
        self._mark = b"safeai-" + os.urandom(16).hex().encode("ascii")

    def begin(self) -> None:
        """Start git, which is otherwise started at the first question: it makes itself ready while we do other things."""
        if self._process is None:
            self._process = subprocess.Popen(
                command_line(["cat-file", "--batch-command"]),  # git-cat-file(1); git 2.36
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self._environment,
                cwd=self._directory,
            )

    def _ask(self, command: str, name: str, after: bytes = b"") -> tuple[str, int, BufferedReader]:
        self.begin()
        process = cast("subprocess.Popen[bytes]", self._process)
        question, answer = cast("IO[bytes]", process.stdin), cast("BufferedReader", process.stdout)
        try:
            question.write(f"{command} {name}\n".encode("ascii") + after)
            question.flush()
            words = answer.readline().split()
        except OSError:
            words = []
        if len(words) == 3 and words[0] == name.encode("ascii"):
            return words[1].decode("ascii"), int(words[2]), answer
        if words == [name.encode("ascii"), b"missing"]:
            if after:
                answer.readline()
            raise ObjectMissing(f"object {name} is not in the object store", hint=MISSING_HINT)
        raise self._unreadable(name)

    def _unreadable(self, name: str) -> ObjectCorrupt:
        """Git is ended, too: nobody knows which question what it says next would answer."""
        self.close()
        return ObjectCorrupt(f"object {name} cannot be read", hint="run 'git fsck --full'")

    def read(self, name: str) -> tuple[str, bytes]:
        """See `ObjectStore.read`.

        Of a damaged object git may say more bytes than it has, and then wait for the next question (git 2.39,
        ``stream_blob``). So a second question comes with the first, of a name that no content can foresee.
        """
        kind, size, answer = self._ask("contents", name, b"info %b\n" % self._mark)
        end = b"\n%b missing\n" % self._mark
        whole = bytearray()
        while len(whole) < size + len(end) and not whole.endswith(end):
            piece = answer.read1(min(size + len(end) - len(whole), _PIECE))
            if not piece:
                break
            whole += piece
        if len(whole) != size + len(end) or not whole.endswith(end):
            raise self._unreadable(name)
        data = bytes(memoryview(whole)[:size])
        if self._hash(b"%b %d\0%b" % (kind.encode(), size, data)).hexdigest() != name:
            raise ObjectCorrupt(f"object {name} does not hash to its name", hint="run 'git fsck --full'")
        return kind, data

    def header(self, name: str) -> tuple[str, int]:
        """See `ObjectStore.header`."""
        kind, size, _ = self._ask("info", name)
        return kind, size

    def size(self, name: str) -> int:
        """See `ObjectStore.size`."""
        return self.header(name)[1]

    def exists(self, name: str) -> bool:
        """See `ObjectStore.exists`."""
        try:
            self.header(name)
        except ObjectMissing:
            return False
        return True

    def write(self, kind: str, data: bytes) -> str:
        """See `ObjectStore.write`."""
        done = subprocess.run(
            command_line(["hash-object", "-w", "-t", kind, "--stdin"]),
            input=data,
            capture_output=True,
            env=self._environment,
            cwd=self._directory,
            check=False,
        )
        if done.returncode:
            raise RepositoryError(
                f"an object cannot be written: {done.stderr.decode('utf-8', 'replace').strip()}"
            )
        return done.stdout.decode("ascii").strip()

    def serves_many(self) -> bool:
        """See `ObjectStore.serves_many`: the copies would share one git."""
        return False

    def close(self) -> None:
        """See `ObjectStore.close`."""
        if self._process is not None:
            self._process.kill()  # it may hang, and has nothing left to do
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process.wait()
            self._process = None


def read_tree(store: ObjectStore, name: str) -> bytes:
    """The raw content of a tree.

    Raises:
        ObjectCorrupt: The object is something else.
        FormatError: It is larger than `LARGEST_TREE`.
    """
    return _read(store, name, "tree", LARGEST_TREE)


def read_commit(store: ObjectStore, name: str) -> Commit:
    """A commit, taken apart.

    Raises:
        ObjectCorrupt: The object is something else.
        FormatError: It cannot be taken apart, or is larger than `LARGEST_COMMIT`.
    """
    kept = _COMMITS.setdefault(store, {})
    found = kept.get(name)
    if found is None:
        data = _read(store, name, "commit", LARGEST_COMMIT)
        found = parse_commit(data)
        if len(data) <= _LARGEST_KEPT:
            if len(kept) >= _MOST_KEPT:
                kept.clear()
            kept[name] = found
    return found


def _read(store: ObjectStore, name: str, wanted: str, most: int) -> bytes:
    kind, size = store.header(name)
    if kind != wanted:
        raise ObjectCorrupt(
            f"object {name} is a {kind} where a {wanted} was expected", hint="run 'git fsck --full'"
        )
    if size > most:
        raise FormatError(f"the {wanted} object {name} has {size:,} bytes; at most {most:,} are read")
    found, data = store.read(name)
    if found != wanted:
        raise ObjectCorrupt(
            f"object {name} is a {found} where a {wanted} was announced", hint="run 'git fsck --full'"
        )
    return data
