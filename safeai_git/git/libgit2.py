"""The object store over libgit2: objects by name, verified, and nothing else of the repository.

libgit2 is given the object folders alone, and of these the packs; loose objects are read for it (`loose`). It sees no
configuration, no attributes, no grafts, no replace refs, no index and no commit-graph file, so none of them can colour
what is read; each object is checked against its name as it is read. A module of its own, since an agent's hook that
needs a handful of objects does without it (`store`).
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

from safeai_git.core.errors import ObjectCorrupt, ObjectMissing, RepositoryError
from safeai_git.git.loose import LooseObjects, object_folders
from safeai_git.git.native import ConfigLevel, ObjectType, pygit2
from safeai_git.git.store import MISSING_HINT

_KINDS = {
    ObjectType.COMMIT: "commit",
    ObjectType.TREE: "tree",
    ObjectType.BLOB: "blob",
    ObjectType.TAG: "tag",
}
_TYPES = {name: kind for kind, name in _KINDS.items()}
_FAILURES = (KeyError, pygit2.GitError, OSError, ValueError)
_IN_A_ROW = 50
"""Objects that come from packs, after which the next one is expected there."""

_PACKS, _LOOSE = 2, 1
"""Asked first, and then (libgit2, ``odb.c``)."""


class Libgit2Store:
    """An `ObjectStore` over libgit2's object database, opened without its repository."""

    hash_size = 20

    def __init__(self, object_directory: Path, alternates: tuple[Path, ...] = ()) -> None:
        self._folders = (object_directory, *alternates)
        self._odb = pygit2.Odb()
        whole = object_folders(self._folders)
        self._packs = _add(self._odb, whole)
        self._files = LooseObjects(whole)
        self._files_alone = pygit2.Odb()
        self._files_alone.add_backend(self._files, _LOOSE)
        self._in_packs = _IN_A_ROW
        self._own: pygit2.Odb | None = None
        self._scratch: list[weakref.finalize[..., Libgit2Store]] = []
        self._merging: pygit2.Repository | None = None

    def read(self, name: str) -> tuple[str, bytes]:
        """See `ObjectStore.read`."""
        try:
            kind, data = self._read(name)
        except _FAILURES as error:
            raise _told(name, error) from error
        return _KINDS[kind], data

    def _read(self, name: str) -> tuple[ObjectType, bytes]:
        """Among the packs first, while the last ones were found there; else among the files.

        libgit2 asks every backend for what it reads, also when the first has it, and looks for new packs where none has,
        which takes longer than to see whether there is a file.
        """
        found: tuple[ObjectType, bytes]
        if self._in_packs < _IN_A_ROW and self._files.exists_cb(name):
            with suppress(pygit2.GitError, KeyError):  # a pack may have what a damaged file has not
                found = self._files_alone.read(name)
                self._in_packs = 0
                return found
        with suppress(KeyError):
            found = self._packs.read(name)
            self._in_packs += 1
            return found
        self._in_packs = 0
        found = self._odb.read(name)
        return found

    def header(self, name: str) -> tuple[str, int]:
        """See `ObjectStore.header`."""
        try:
            kind, size = self._odb.read_header(name)
        except _FAILURES as error:
            raise _told(name, error) from error
        return _KINDS[kind], size

    def size(self, name: str) -> int:
        """See `ObjectStore.size`."""
        if self._in_packs < _IN_A_ROW:
            with suppress(KeyError, pygit2.GitError, OSError):
                return self._files.read_header_cb(name)[1]
        try:
            size: int = self._odb.read_header(name)[1]
        except _FAILURES as error:
            raise _told(name, error) from error
        return size

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

    def serves_many(self) -> bool:
        """See `ObjectStore.serves_many`."""
        return True

    def borrow_scratch(self) -> Path:
        """An empty folder, for nobody else to read, that is there until `close`."""
        folder = Path(tempfile.gettempdir(), f"safeai-scratch-{secrets.token_hex(16)}")
        # Whoever cleans up knows the name first: a signal may end the program right after the folder was made.
        self._scratch.append(weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True))
        folder.mkdir(mode=0o700)
        return folder

    def borrow(self, object_directory: Path) -> None:
        """Read objects of another folder too; a name is the hash of its content, so it may be any."""
        _add(self._odb, object_folders((object_directory,)))

    def merging_repository(self) -> pygit2.Repository:
        """A repository of nothing but these objects, in which merges are computed.

        What a merge writes goes to a temporary folder that `close` removes.
        """
        if self._merging is None:
            scratch = self.borrow_scratch()
            odb = pygit2.Odb(os.fspath(scratch))
            _add(odb, object_folders(self._folders))
            no_configuration()
            self._merging = pygit2.Repository()
            self._merging.set_odb(odb)
            self._odb.add_disk_alternate(os.fspath(scratch))
        return self._merging

    def close(self) -> None:
        """See `ObjectStore.close`."""
        for remove in self._scratch:
            remove()


def _told(name: str, error: Exception) -> ObjectMissing | ObjectCorrupt:
    """What an object that cannot be had is to whoever asked."""
    if isinstance(error, KeyError):
        return ObjectMissing(f"object {name} is not in the object store", hint=MISSING_HINT)
    return ObjectCorrupt(f"object {name} cannot be read: {error}", hint="run 'git fsck --full'")


def _add(odb: pygit2.Odb, folders: list[Path]) -> pygit2.Odb:
    """Let libgit2 read the objects of some folders (`object_folders`): not their commit-graph, which nobody verifies, nor loose files.

    Returns:
        Another database of their packs alone.
    """
    packs = pygit2.Odb()
    for folder in folders:
        for one in (odb, packs):
            one.add_backend(pygit2.OdbBackendPack(os.fspath(folder)), _PACKS)
    odb.add_backend(LooseObjects(folders), _LOOSE)
    return packs


def no_configuration() -> None:
    """Keep libgit2 from looking for any configuration file, of the system or of the user."""
    for level in (
        ConfigLevel.GLOBAL,
        ConfigLevel.XDG,
        ConfigLevel.SYSTEM,
    ):
        pygit2.settings.search_path[level] = ""
    # A merged tree may hold files that no side changed and that a partial clone does not have.
    pygit2.settings.enable_strict_object_creation(False)
