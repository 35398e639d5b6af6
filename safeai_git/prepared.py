"""Prepared environments: what a check's set-up leaves, kept once for each command and content of the lock files.

A set-up runs in the sandbox, in a tree that holds the lock files and nothing else of the change; so what it makes can
depend on them, on the command and on the machine, and on no other part of any proposal. It is copied out beneath a
directory handle, kept under the digest of all that decides it, and shown to checks read-only: no check can write it.
An entry appears whole or not at all. Before each use it is held against its manifest: by the times and inodes that were
recorded when it was written, which nobody but the kernel sets, and by content where those differ.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from msgspec import Struct

from safeai_git.core import canonical
from safeai_git.core.display import safe_text
from safeai_git.core.errors import SandboxUnavailable, StorageError
from safeai_git.core.policy import Setup
from safeai_git.core.values import fields
from safeai_git.evidence import last_lines
from safeai_git.files import read_json, sync_folder, write_atomically
from safeai_git.sandbox import harvest
from safeai_git.sandbox.port import Backend, Job, Limits
from safeai_git.sandbox.scratch import remove_tree, scratch_directory

if sys.platform != "win32":
    import fcntl

MOST_BYTES = 4 * 2**30
MOST_ENTRIES = 16
OLDEST_SECONDS = 90 * 24 * 3600
LARGEST = harvest.Bounds(entries=400_000, bytes=2 * 2**30)
_OF_ROOT = Path("/var/cache/safeai-git/prepared")
_FORMAT = 1
_TRIED = 3
_UNFINISHED = "making-"
_ABANDONED_SECONDS = 24 * 3600


class Environment(Struct, frozen=True):
    """What is shown to a check.

    Attributes:
        folders: By the path in the tree, where each is on the host.
        content: SHA-256, hex, over names, modes and contents of everything in them.
    """

    folders: Mapping[str, Path]
    content: str


def place_for(private: Path, environ: Mapping[str, str]) -> Path:
    """Where the environments of a repository are kept.

    ``SAFEAI_PREPARED`` names a folder. Otherwise it is the repository's private one; for root, whose checks run as
    somebody who may not enter that, one of the system's.

    Raises:
        SandboxUnavailable: ``SAFEAI_PREPARED`` is no absolute path.
    """
    named = environ.get("SAFEAI_PREPARED", "")
    if named:
        if not named.startswith("/"):
            raise SandboxUnavailable(
                f"SAFEAI_PREPARED is '{named}', which means another folder in each place",
                hint="give the whole path",
            )
        return Path(named)
    return _OF_ROOT if hasattr(os, "geteuid") and os.geteuid() == 0 else private / "prepared"


class PreparedEnvironments:
    """The environments of one repository.

    Args:
        folder: Private; made when something is kept.
        mount_at: The repository's own path, which set-ups may write into what they make.
        read: The content of a file of a tree, ``None`` where it has no such plain file.
        environ: Values for the variables that a set-up asks for by name.
        progress: Told about each step.
        log: Given the digest and the compressed text of what a set-up printed.
        stopping: True when a set-up is to end.
    """

    def __init__(
        self,
        folder: Path,
        mount_at: Path,
        *,
        read: Callable[[str, str], bytes | None],
        environ: Mapping[str, str],
        progress: Callable[[str], None],
        log: Callable[[str, bytes], None],
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._folder = folder
        self._mount_at = mount_at
        self._read = read
        self._environ = environ
        self._progress = progress
        self._log = log
        self._stopping = stopping

    @contextmanager
    def of(self, tree: str, setup: Setup, backend: Backend, *, network: bool) -> Iterator[Environment]:
        """The environment for a tree, made if it is not there yet, and held for as long as the context lasts.

        Args:
            tree: Its name; its lock files count.
            setup: As the policy has it.
            backend: Where it runs.
            network: Whether it gets the network that it asks for.

        Raises:
            SandboxUnavailable: It cannot be had: a lock file is missing, the set-up fails, or isolation is too weak.
            StorageError: It cannot be kept.
        """
        if backend.isolation.level == "C":
            raise SandboxUnavailable(
                "a prepared environment can be shown at the repository's own path at levels A and B only",
                hint="give the check's environment with read_only, or mend what keeps level B out (safeai-git doctor)",
            )
        locks = {path: self._lock(tree, path) for path in setup.locks}
        key = canonical.digest(
            {
                "format": _FORMAT,
                "setup": fields(setup),
                "locks": {path: hashlib.sha256(content).hexdigest() for path, content in locks.items()},
                "at": str(self._mount_at),
                "machine": platform.machine(),
                "kernel": platform.release(),
                "user": os.getuid(),
                "network": network,
            }
        )
        self._make_folder()
        for _ in range(_TRIED):
            with self._locked(key, fcntl.LOCK_SH):
                if found := self._kept(key, setup):
                    yield found
                    return
            with self._locked(key, fcntl.LOCK_EX):  # who comes second finds what the first has made
                if self._kept(key, setup) is None:
                    self._make(key, locks, setup, backend, network=network)
        raise StorageError(
            f"the prepared environment in {self._folder / key} does not stay as it was written",
            hint="look for a program that changes files there",
        )

    @contextmanager
    def _locked(self, key: str, how: int) -> Iterator[None]:
        """One of 256 locks, which are files that stay; entries of one lock wait for each other, no more."""
        descriptor = os.open(
            self._folder / f"lock-{key[:2]}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)

    def _make_folder(self) -> None:
        mode = 0o711 if os.geteuid() == 0 else 0o700  # root's checks run as another user, who passes through
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=mode)
            found = self._folder.lstat()
        except OSError as error:
            raise StorageError(
                f"{self._folder} cannot be made: {error.strerror}",
                hint="point SAFEAI_PREPARED at another folder",
            ) from error
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise StorageError(
                f"somebody else could write {self._folder}", hint="make it yours alone: chmod go-w, chown"
            )

    def _lock(self, tree: str, path: str) -> bytes:
        content = self._read(tree, path)
        if content is None:
            raise SandboxUnavailable(
                f"the tree has no lock file {path}, so nothing can be prepared from it",
                hint="add it, or change 'setup' in the policy",
            )
        return content

    def _kept(self, key: str, setup: Setup) -> Environment | None:
        place = self._folder / key
        manifest = read_json(place / "manifest.json")
        if not isinstance(manifest, dict) or not isinstance(manifest.get("content"), str):
            return None
        try:
            with harvest.folder(place / "content") as root:
                if harvest.stamp(root) != manifest.get("stamp"):
                    if harvest.listing(root) != manifest["content"]:
                        self._progress(f"the prepared environment {key[:12]} was changed; it is made anew")
                        return None
                    # moved to another place, as a restored backup is: the same content
                    self._write_manifest(place, manifest["content"], harvest.stamp(root))
        except (OSError, harvest.Unreadable):
            return None
        with suppress(OSError):
            os.utime(place)  # for the order in which old ones go
        return Environment({path: place / "content" / path for path in setup.keeps}, manifest["content"])

    def _make(
        self, key: str, locks: Mapping[str, bytes], setup: Setup, backend: Backend, *, network: bool
    ) -> None:
        self._progress(f"preparing an environment: {setup.run}")
        self._make_room(key)
        with ExitStack() as stack:
            scratch = stack.enter_context(scratch_directory())
            making = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self._folder))
            stack.callback(remove_tree, making)
            tree = scratch / "tree"
            tree.mkdir(mode=0o755)
            for path, content in locks.items():
                (tree / path).parent.mkdir(parents=True, exist_ok=True)
                (tree / path).write_bytes(content)
            faults: list[str] = []

            def collect(root: int) -> None:
                try:
                    for path in setup.keeps:
                        above = making / "content"
                        for part in path.split("/")[:-1]:
                            above /= part
                            above.mkdir(exist_ok=True)
                            above.chmod(0o755)
                        harvest.copy(root, path, making / "content" / path, LARGEST)
                except (OSError, harvest.Unreadable) as error:
                    faults.append(str(error))

            limits = Limits(wall_seconds=setup.timeout_seconds, memory_bytes=setup.memory_bytes)
            job = Job(
                name="setup",
                argv=("/bin/sh", "-c", setup.run),
                tree=tree,
                mount_at=self._mount_at,
                environment={
                    name: self._environ[name] for name in setup.environment if name in self._environ
                },
                limits=limits,
                read_only=tuple(Path(folder) for folder in setup.read_only),
                tree_entries=2 * len(locks),
                tree_bytes=sum(map(len, locks.values())),
                collect=collect,
                prepared={self._mount_at / path: None for path in setup.keeps},
                network=network,
                stopping=self._stopping,
            )
            (making / "content").mkdir()
            (making / "content").chmod(0o755)
            if backend.identity is not None:
                making.chmod(0o711)
            outcome = backend.run(job)
            self._log(outcome.output_sha256, outcome.log)
            if outcome.exit_code != 0 or faults:
                why = "; ".join(faults) if outcome.exit_code == 0 else f"exit code {outcome.exit_code}"
                if outcome.limit_hit:
                    why = f"stopped at its limit: {outcome.limit_hit}"
                printed = safe_text(last_lines(outcome.output, 3)) or "nothing"
                raise SandboxUnavailable(
                    f"no environment could be prepared: {why}; it printed: {printed}",
                    hint=f"all of it: safeai-git replay --log {outcome.output_sha256[:12]}",
                )
            with harvest.folder(making / "content") as root:
                self._write_manifest(making, harvest.listing(root), harvest.stamp(root))
            self._remove(self._folder / key)
            making.rename(self._folder / key)
            sync_folder(self._folder)

    @staticmethod
    def _write_manifest(place: Path, content: str, stamp: str) -> None:
        manifest = {"content": content, "stamp": stamp, "made": int(time.time())}
        write_atomically(place / "manifest.json", json.dumps(manifest).encode())

    def _make_room(self, key: str) -> None:
        """Let the longest unused go until the rest is within bounds, and what a crash has left. Nothing that is used."""
        kept: list[tuple[int, int, Path]] = []
        now = time.time()
        for place in self._folder.iterdir():
            with suppress(OSError, harvest.Unreadable):
                if place.name.startswith(_UNFINISHED):
                    if now - place.stat().st_mtime > _ABANDONED_SECONDS:
                        remove_tree(place)
                elif place.is_dir() and place.name != key:
                    with harvest.folder(place) as root:
                        kept.append((place.stat().st_mtime_ns, harvest.size(root), place))
        kept.sort()
        total = sum(size for _, size, _ in kept)
        number = len(kept)
        for used, size, place in kept:
            old = now - used / 10**9 > OLDEST_SECONDS
            if not old and total <= MOST_BYTES - LARGEST.bytes and number < MOST_ENTRIES:
                break
            if place.name[:2] != key[:2] and not self._is_used(place):
                total, number = total - size, number - 1

    def _is_used(self, place: Path) -> bool:
        """Whether somebody holds an entry; if nobody does, it is gone afterwards."""
        descriptor = os.open(
            self._folder / f"lock-{place.name[:2]}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._remove(place)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    @staticmethod
    def _remove(place: Path) -> None:
        if place.exists():
            away = place.with_name(f"{_UNFINISHED}{os.urandom(8).hex()}")
            place.rename(away)  # at once: nobody finds half of it
            remove_tree(away)
