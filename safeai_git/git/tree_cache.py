"""Trees kept between replays, each the lowest layer of many: written once, never changed, shown to checks read-only.

An entry is a folder with the tree as `materialise` writes it and a seal: what it is, whose, of which start of the
machine, and a digest over the status of everything in it. It is made under another name and renamed when it is whole, so
a killed writer leaves nothing that is believed. It is looked at before each use: the seal always; everything in it when
it is small, or when that was last done some minutes ago. What fails is thrown away, and the tree is written anew.
Whoever uses an entry holds a lock on it, and whoever removes one needs it alone. Only what a check cannot write is
trusted: it sees an overlay of the entry, or a copy.

The place is in memory, as scratch folders are: a restart empties it, and removing costs little.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from msgspec import Struct

from safeai_git.core.errors import StorageError
from safeai_git.core.values import fields
from safeai_git.files import read_json, write_atomically
from safeai_git.git.materialise import write_plan
from safeai_git.git.tree_look import Look
from safeai_git.git.tree_plan import Materialised, Plan, Read, Shared
from safeai_git.sandbox.scratch import memory_places, remove_tree, suits

if sys.platform == "linux":
    import fcntl

MOST_BYTES = 2**30
"""Of all entries together, and no more than half of what is free."""
MOST_ENTRIES = 32
MOST_OF_ONE = 3
"""Entries of one repository."""
LONGEST_UNUSED_SECONDS = 7 * 86400.0
SMALL = 2_000
"""Files and folders that are looked at each time."""
BETWEEN_LOOKS_SECONDS = 300.0
"""After which all of a larger entry is looked at again; before that, its seal."""

_COST_OF_AN_ENTRY = 4096
_ROOM = 256 * 2**20
_FORMAT = 1
_TRIED = 10
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Entry(Struct, frozen=True):
    """An entry that is held: nobody removes it meanwhile.

    Attributes:
        tree_id: Name of the tree.
        tree: Where it lies.
        holds: What is in it.
    """

    tree_id: str
    tree: Path
    holds: Materialised


def default_place(environ: Mapping[str, str]) -> Path | None:
    """The folder of this user's entries, made if need be; ``None`` where there is none that would do.

    ``SAFEAI_TREES`` names another one, or with an empty value none.
    """
    if sys.platform != "linux":
        return None
    named = environ.get("SAFEAI_TREES")
    if named is not None:
        return _own_folder(Path(named)) if named.startswith("/") else None
    for place in memory_places(environ):
        if suits(place, _ROOM, SMALL):
            return _own_folder(place / f"safeai-trees-{os.geteuid()}")
    return None


def _own_folder(place: Path) -> Path | None:
    """The folder, if nobody else can write it: others may have been first in a folder that all can write."""
    mode = 0o711 if os.geteuid() == 0 else 0o700  # root's checks run as another user, who passes through
    with suppress(OSError):
        with suppress(FileExistsError):
            place.mkdir(mode=mode)
            place.chmod(mode)
        found = place.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022:
            return place
    return None


class TreeCache:
    """The entries of one repository, for checks that run as one user.

    Args:
        place: See `default_place`.
        repository: Its folder; its entries are its own.
        owner: User and group that checks run as outside, to whom the trees are given; ``None`` for the caller.
    """

    def __init__(self, place: Path, repository: Path, owner: tuple[int, int] | None) -> None:
        self._place = place
        self._owner = owner
        user = os.geteuid() if owner is None else owner[0]
        of_repository = hashlib.sha256(os.fsencode(repository.resolve())).hexdigest()[:16]
        self._prefix = f"{of_repository}-{user}-"

    @contextmanager
    def hold(self, tree_id: str) -> Iterator[Entry | None]:
        """The entry of a tree, held for as long as the context lasts; ``None`` when there is none that is right.

        Whoever shows it to a check says so by `used`; an entry that was only looked at is as old as before.
        """
        folder = self._place / (self._prefix + tree_id)
        with _locked(folder, fcntl.LOCK_SH) as lock:
            found = None if lock is None else self._believed(folder, tree_id)
            if found is not None:
                yield found
                return
        _remove(folder)
        yield None

    def used(self, entry: Entry) -> None:
        """Keep a held entry for longer than those that were used before."""
        with suppress(OSError):
            os.utime(entry.tree.with_name("lock"))

    def recent(self) -> list[str]:
        """Names of the trees that there are entries of, the one that was used last first."""
        used = [one for one in _entries(self._place) if one.name.startswith(self._prefix)]
        return [one.name.removeprefix(self._prefix) for one in sorted(used, key=_used, reverse=True)]

    def has_room(self, plan: Plan) -> bool:
        """Whether an entry of that size may be added."""
        found = os.statvfs(self._place)
        size = _size(plan.counts)
        return size <= min(MOST_BYTES, found.f_bavail * found.f_frsize) // 2

    def add(self, tree_id: str, plan: Plan, read: Read, shared: Shared = lambda: True) -> None:
        """Write a tree and make it an entry; make room for it first.

        Raises:
            StorageError, FormatError, ObjectMissing, ObjectCorrupt: It cannot be written; nothing is left of it.
        """
        evict(self._place, keep=MOST_ENTRIES - 1, room=_size(plan.counts))
        folder, descriptor = _begun(self._place)
        try:
            try:
                if self._owner is not None:
                    folder.chmod(0o711)
                look = Look()
                write_plan(
                    read,
                    plan,
                    folder / "tree",
                    what=f"the tree {tree_id}",
                    owner=self._owner,
                    look=look,
                    shared=shared,
                )
                self._seal(folder, tree_id, plan.counts, look)
            except BaseException as error:
                remove_tree(folder)
                if isinstance(error, OSError):
                    raise StorageError(f"{folder} cannot be written: {error}") from error
                raise
            self._put(folder, self._place / (self._prefix + tree_id))
        finally:
            os.close(descriptor)
        evict(self._place, prefix=self._prefix, keep=MOST_OF_ONE)

    def _put(self, made: Path, folder: Path) -> None:
        for _ in range(2):
            try:
                made.rename(folder)
            except OSError:  # another process was quicker, or what is there was found wrong
                with self.hold(folder.name.removeprefix(self._prefix)) as found:
                    if found is not None:
                        break
            else:
                return
        remove_tree(made)

    def _seal(self, folder: Path, tree_id: str, holds: Materialised, look: Look) -> None:
        root = (folder / "tree").lstat()
        seal = {
            **self._expected(tree_id),
            "holds": fields(holds),
            "root": [root.st_dev, root.st_ino],
            "status": look.digest,
            "looked": time.time(),
        }
        write_atomically(folder / "seal", json.dumps(seal).encode())

    def _expected(self, tree_id: str) -> dict[str, Any]:
        boot = _BOOT.read_text(encoding="ascii").strip()
        return {"format": _FORMAT, "tree": tree_id, "boot": boot, "owner": self._owner and list(self._owner)}

    def _believed(self, folder: Path, tree_id: str) -> Entry | None:
        try:
            root = (folder / "tree").lstat()
            seal = read_json(folder / "seal")
            expected = self._expected(tree_id)
            if seal["root"] != [root.st_dev, root.st_ino] or any(
                seal[name] != value for name, value in expected.items()
            ):
                return None
            holds = Materialised(**seal["holds"])
            age = time.time() - seal["looked"]
            if holds.entries > SMALL and 0 <= age < BETWEEN_LOOKS_SECONDS:
                return Entry(tree_id, folder / "tree", holds)
            look = Look()
            look.walk(folder / "tree")
            if look.digest != seal["status"]:
                return None
            if holds.entries > SMALL:
                with suppress(StorageError):  # the next one looks again
                    write_atomically(folder / "seal", json.dumps({**seal, "looked": time.time()}).encode())
        except (OSError, KeyError, TypeError, ValueError):
            return None
        return Entry(tree_id, folder / "tree", holds)


class Kept(Struct, frozen=True):
    """What there is in a cache: how many entries, and about how many bytes they take."""

    entries: int
    bytes: int


def kept(place: Path) -> Kept:
    """What there is."""
    found = _entries(place)
    return Kept(len(found), sum(map(_size_of, found)))


def clear(place: Path) -> Kept:
    """Remove every entry that nobody is using; gives back what is left."""
    evict(place, keep=0)
    return kept(place)


def evict(place: Path, *, prefix: str = "", keep: int = MOST_ENTRIES, room: int = 0) -> None:
    """Remove what was unused for long, what was never finished, and the longest unused until the rest fits.

    Args:
        place: The cache.
        prefix: Only entries whose names begin so count.
        keep: How many may stay.
        room: Bytes that are about to be added.
    """
    left = MOST_BYTES - room
    oldest = time.time() - LONGEST_UNUSED_SECONDS
    for one in sorted(_entries(place), key=_used, reverse=True):
        left -= _size_of(one)
        counted = one.name.startswith(prefix)
        if left < 0 or _used(one) < oldest or (counted and keep <= 0):
            _remove(one)
        keep -= counted
    with suppress(OSError):
        for one in list(place.iterdir()):
            if one.name.startswith(("new-", "dead-")):
                _remove(one)


def _entries(place: Path) -> list[Path]:
    with suppress(OSError):
        return [one for one in place.iterdir() if not one.name.startswith(("new-", "dead-"))]
    return []


def _used(folder: Path) -> float:
    with suppress(OSError):
        return (folder / "lock").lstat().st_mtime
    return 0.0


def _size_of(folder: Path) -> int:
    seal = read_json(folder / "seal")
    with suppress(KeyError, TypeError):
        return _size(Materialised(**seal["holds"]))
    return 0


def _size(holds: Materialised) -> int:
    return holds.bytes + _COST_OF_AN_ENTRY * holds.entries


def _begun(place: Path) -> tuple[Path, int]:
    """A new folder and its lock, held.

    Another process may take it for what a killed one left, until the lock is held: then the next one is made.

    Raises:
        StorageError: None can be made.
    """
    problem = OSError(errno.EBUSY, "other processes removed it again and again")
    for _ in range(_TRIED):
        folder = place / f"new-{secrets.token_hex(8)}"
        try:
            folder.mkdir(mode=0o700)
            descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileNotFoundError as error:
            problem = error
            continue
        except OSError as error:
            raise StorageError(f"{folder} cannot be written: {error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        except OSError as error:
            os.close(descriptor)
            raise StorageError(f"{folder} cannot be locked: {error}") from error
        if _same(descriptor, folder / "lock"):
            return folder, descriptor
        os.close(descriptor)
    raise StorageError(f"{folder} cannot be written: {problem}") from problem


def _remove(folder: Path) -> None:
    """Remove an entry, unless somebody uses it; what cannot be removed now is tried again another time."""
    with _locked(folder, fcntl.LOCK_EX) as lock, suppress(OSError, StorageError):
        if lock is None and (folder / "lock").exists():
            return
        if lock is None and folder.name.startswith("new-"):
            folder.rmdir()  # fails if its lock has been made since
            return
        dead = folder.with_name(f"dead-{secrets.token_hex(8)}")
        folder.rename(dead)
        remove_tree(dead)


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[int | None]:
    """The lock of an entry, by descriptor, if it can be had at once and still is the entry's."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            same = _same(descriptor, folder / "lock")
        except OSError:
            same = False
        yield descriptor if same else None
    finally:
        os.close(descriptor)


def _same(descriptor: int, lock: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), lock.lstat())
    except OSError:
        return False
