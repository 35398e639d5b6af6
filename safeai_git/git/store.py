"""The object store: objects by name, verified, and nothing else of the repository.

libgit2 is given the object folders alone. It sees no configuration, no attributes, no grafts, no replace refs, no
index and no commit-graph file, so none of them can colour what is read; each object is checked against its name as
it is read. Repositories that libgit2 cannot serve (SHA-256) are read through ``git cat-file``, with the same promises.

An object store borrowed from elsewhere (alternates, a push's quarantine) is read too: a name is the hash of its
content, so it does not matter who keeps the bytes.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Protocol, cast

import pygit2
from pygit2.enums import ObjectType

from safeai_git.core.errors import FormatError, ObjectCorrupt, ObjectMissing, RepositoryError
from safeai_git.core.objects import Commit, parse_commit
from safeai_git.git.plumbing import clean_environment, command_line

LARGEST_TREE = 16 * 1024 * 1024
LARGEST_COMMIT = 1024 * 1024
"""Bytes of one object above which it is not taken apart: a few bytes in a pack can stand for gigabytes."""

_LARGEST_KEPT = 4_096
_MOST_KEPT = 8_192
"""Commits that are kept parsed, of at most so many bytes each: whoever walks a history asks for each several times."""

_COMMITS: weakref.WeakKeyDictionary[ObjectStore, dict[str, Commit]] = weakref.WeakKeyDictionary()

_KINDS = {
    ObjectType.COMMIT: "commit",
    ObjectType.TREE: "tree",
    ObjectType.BLOB: "blob",
    ObjectType.TAG: "tag",
}
_TYPES = {name: kind for kind, name in _KINDS.items()}

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

    def write(self, kind: str, data: bytes) -> str:
        """Add an object to the repository's own store and return its name."""

    def exists(self, name: str) -> bool:
        """Whether the object is there."""

    def close(self) -> None:
        """Give back what the store holds open."""


class Libgit2Store:
    """An `ObjectStore` over libgit2's object database, opened without its repository."""

    hash_size = 20

    def __init__(self, object_directory: Path, alternates: tuple[Path, ...] = ()) -> None:
        # As alternates the folders bring their objects and not their commit-graph, which nobody verifies.
        self._folders = (object_directory, *alternates)
        self._odb = pygit2.Odb()
        for folder in self._folders:
            self._odb.add_disk_alternate(os.fspath(folder))
        self._own: pygit2.Odb | None = None
        self._scratch: list[weakref.finalize[..., Libgit2Store]] = []
        self._merging: pygit2.Repository | None = None

    def read(self, name: str) -> tuple[str, bytes]:
        """See `ObjectStore.read`."""
        try:
            kind, data = self._odb.read(name)
        except KeyError as error:
            raise ObjectMissing(f"object {name} is not in the object store", hint=MISSING_HINT) from error
        except (pygit2.GitError, OSError, ValueError) as error:
            raise ObjectCorrupt(
                f"object {name} cannot be read: {error}", hint="run 'git fsck --full'"
            ) from error
        return _KINDS[kind], data

    def header(self, name: str) -> tuple[str, int]:
        """See `ObjectStore.header`."""
        try:
            kind, size = self._odb.read_header(name)
        except KeyError as error:
            raise ObjectMissing(f"object {name} is not in the object store", hint=MISSING_HINT) from error
        except (pygit2.GitError, OSError, ValueError) as error:
            raise ObjectCorrupt(
                f"object {name} cannot be read: {error}", hint="run 'git fsck --full'"
            ) from error
        return _KINDS[kind], size

    def exists(self, name: str) -> bool:
        """See `ObjectStore.exists`."""
        return name in self._odb

    def write(self, kind: str, data: bytes) -> str:
        """See `ObjectStore.write`."""
        if self._own is None:
            self._own = pygit2.Odb(os.fspath(self._folders[0]))
        try:
            return str(self._own.write(_TYPES[kind], data))
        except (pygit2.GitError, OSError) as error:
            raise RepositoryError(
                f"an object cannot be written to {self._folders[0]}: {error}",
                hint="check free space and permissions of the folder",
            ) from error

    def borrow_scratch(self) -> Path:
        """An empty folder, for nobody else to read, that is there until `close`."""
        folder = Path(tempfile.gettempdir(), f"safeai-scratch-{secrets.token_hex(16)}")
        # Whoever cleans up knows the name first: a signal may end the program right after the folder was made.
        self._scratch.append(weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True))
        folder.mkdir(mode=0o700)
        return folder

    def borrow(self, object_directory: Path) -> None:
        """Read objects of another folder too; a name is the hash of its content, so it may be any."""
        self._odb.add_disk_alternate(os.fspath(object_directory))

    def merging_repository(self) -> pygit2.Repository:
        """A repository of nothing but these objects, in which merges are computed.

        What a merge writes goes to a temporary folder that `close` removes.
        """
        if self._merging is None:
            scratch = self.borrow_scratch()
            odb = pygit2.Odb(os.fspath(scratch))
            for folder in self._folders:
                odb.add_disk_alternate(os.fspath(folder))
            no_configuration()
            self._merging = pygit2.Repository()
            self._merging.set_odb(odb)
            self._odb.add_disk_alternate(os.fspath(scratch))
        return self._merging

    def close(self) -> None:
        """See `ObjectStore.close`."""
        for remove in self._scratch:
            remove()


class CatFileStore:
    """An `ObjectStore` over ``git cat-file --batch``, for what libgit2 cannot open."""

    def __init__(self, git_directory: Path, hash_size: int, environ: Mapping[str, str]) -> None:
        self.hash_size = hash_size
        self._directory = git_directory
        self._environment = clean_environment(environ) | {"GIT_DIR": os.fspath(git_directory)}
        self._hash = {20: hashlib.sha1, 32: hashlib.sha256}[hash_size]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def _ask(self, mode: str, name: str) -> tuple[str, int, IO[bytes]]:
        process = self._processes.get(mode)
        if process is None:
            process = self._processes[mode] = subprocess.Popen(
                command_line(["cat-file", mode]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self._environment,
                cwd=self._directory,
            )
        question, answer = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        try:
            question.write(name.encode("ascii") + b"\n")
            question.flush()
            words = answer.readline().split()
        except OSError as error:
            raise ObjectCorrupt(f"object {name} cannot be read", hint="run 'git fsck --full'") from error
        if len(words) == 3 and words[0] == name.encode("ascii"):
            return words[1].decode("ascii"), int(words[2]), answer
        if words[-1:] == [b"missing"]:
            raise ObjectMissing(f"object {name} is not in the object store", hint=MISSING_HINT)
        raise ObjectCorrupt(f"object {name} cannot be read", hint="run 'git fsck --full'")

    def read(self, name: str) -> tuple[str, bytes]:
        """See `ObjectStore.read`."""
        kind, size, answer = self._ask("--batch", name)
        data = answer.read(size)
        answer.read(1)
        if self._hash(b"%b %d\0%b" % (kind.encode(), size, data)).hexdigest() != name:
            raise ObjectCorrupt(f"object {name} does not hash to its name", hint="run 'git fsck --full'")
        return kind, data

    def header(self, name: str) -> tuple[str, int]:
        """See `ObjectStore.header`."""
        kind, size, _ = self._ask("--batch-check", name)
        return kind, size

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

    def close(self) -> None:
        """See `ObjectStore.close`."""
        for process in self._processes.values():
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            process.wait()
        self._processes.clear()


def no_configuration() -> None:
    """Keep libgit2 from looking for any configuration file, of the system or of the user."""
    for level in (
        pygit2.enums.ConfigLevel.GLOBAL,
        pygit2.enums.ConfigLevel.XDG,
        pygit2.enums.ConfigLevel.SYSTEM,
    ):
        pygit2.settings.search_path[level] = ""
    # A merged tree may hold files that no side changed and that a partial clone does not have.
    pygit2.settings.enable_strict_object_creation(False)


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
    return store.read(name)[1]
