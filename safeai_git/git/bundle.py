"""Git bundles: a change in one file, made where it is, read where it is judged.

What is made holds the two commits with their whole trees, and everything between them, and nothing older. What is read
was made by anybody: it is taken into an empty bare repository of its own, in which nothing of it runs, under limits of
bytes, objects, memory and time, and git checks each object as it does on a fetch (git-index-pack(1), fsck). Format:
gitformat-bundle(5).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from safeai_git.core.errors import FormatError, ObjectMissing, RepositoryError
from safeai_git.git.plumbing import Bounds, GitFailed, run
from safeai_git.git.repository import NOTES_REF, Repository, discover
from safeai_git.git.store import read_commit

_SIGNATURES = (b"# v2 git bundle", b"# v3 git bundle")
_LARGEST_HEADER = 1 << 20
_REF = re.compile(rb"([0-9a-f]{40}) (HEAD|refs/[!-~]{1,250})")
_PREREQUISITE = re.compile(rb"-[0-9a-f]{40}(?: .*)?")
_PACK_HEADER = 12
_BOUNDS = Bounds(memory_bytes=384 << 20, cpu_seconds=30, file_bytes=512 << 20, seconds=60)


class BundleRefused(FormatError):
    """A bundle is none, is damaged, or is more than is taken."""


class Budget(Struct, frozen=True):
    """How much a bundle may be.

    Attributes:
        objects: Objects in its pack.
        bounds: Of the process that reads it.
    """

    objects: int = 200_000
    bounds: Bounds = _BOUNDS


def make_bundle(repository: Repository, base: str, head: str) -> bytes:
    """A bundle of everything that judging a change needs: both commits whole, what lies between, and approvals.

    Args:
        repository: An open repository.
        base: Commit id.
        head: Commit id.

    Raises:
        RepositoryError: Git cannot read them.
    """
    wanted = repository.git(["rev-list", "--objects", "--no-walk", base, head])
    wanted += repository.git(["rev-list", "--objects", head, f"^{base}"])
    names = {line.partition(b" ")[0] for line in wanted.splitlines()}
    refs = [b"%b refs/heads/base" % base.encode(), b"%b refs/heads/head" % head.encode()]
    notes = repository.ref(NOTES_REF)
    if notes:
        kept = repository.git(["rev-list", "--objects", "--no-walk", notes])
        names |= {line.partition(b" ")[0] for line in kept.splitlines()}
        refs.append(b"%b %b" % (notes.encode(), NOTES_REF.encode()))
    pack = repository.git(["pack-objects", "--stdout", "-q"], stdin=b"\n".join(sorted(names)) + b"\n")
    return b"\n".join([_SIGNATURES[0], *refs, b"", b""]) + pack


@contextmanager
def opened_bundle(data: bytes, folder: Path, budget: Budget | None = None) -> Iterator[Repository]:
    """Take a bundle into a bare repository, for as long as the caller looks at it.

    Args:
        data: The bundle.
        folder: An empty folder; removing it afterwards is the caller's.
        budget: How much it may be.

    Raises:
        BundleRefused: It is no bundle, damaged, or more than the budget.
        RepositoryError: Git cannot be run.
    """
    budget = budget or Budget()
    refs, pack = _header(data)
    _pack_header(pack, budget.objects)
    for name in ("objects/pack", "objects/info", "refs/notes"):
        (folder / name).mkdir(parents=True)
    (folder / "HEAD").write_text("ref: refs/heads/none\n", encoding="ascii")
    (folder / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = true\n", encoding="ascii")
    environ = {"GIT_DIR": os.fspath(folder)}
    try:
        run(
            ["index-pack", "--stdin", "--fsck-objects", "--threads=1", f"--max-input-size={len(pack)}"],
            cwd=folder,
            environ=environ,
            stdin=bytes(pack),
            bounds=budget.bounds,
        )
    except GitFailed as error:
        raise BundleRefused(
            f"the bundle cannot be taken: {_said(error)}",
            hint="'git bundle verify' and 'git fsck' tell more; it may stand on nothing that it does not hold",
        ) from None
    repository = discover(folder, environ)
    repository.shallow = True  # what is older than the base is not there
    try:
        notes = refs.get(NOTES_REF.encode())
        if notes is not None and repository.store.exists(notes):
            (folder / NOTES_REF).write_text(f"{notes}\n", encoding="ascii")
        yield repository
    finally:
        repository.close()


def commit_of(repository: Repository, name: str) -> str:
    """The commit of an id that a caller named, if the bundle holds it.

    Raises:
        BundleRefused: It does not, or it is no commit.
    """
    try:
        if re.fullmatch(r"[0-9a-f]{40}", name):
            read_commit(repository.store, name)
            return name
    except ObjectMissing:
        pass
    except RepositoryError as error:
        raise BundleRefused(f"{name} is no commit that can be read: {error.message}") from None
    raise BundleRefused(
        f"the bundle holds no commit {name[:64]!a}", hint="name both commits by their full ids"
    )


def _header(data: bytes) -> tuple[dict[bytes, str], memoryview]:
    """The refs, and the pack."""
    end = data.find(b"\n\n", 0, _LARGEST_HEADER)
    lines = data[: max(end, 0)].split(b"\n")
    if end < 0 or lines[0] not in _SIGNATURES:
        raise BundleRefused("this is no git bundle", hint="'git bundle create' makes one")
    refs: dict[bytes, str] = {}
    for line in lines[1:]:
        if line.startswith(b"@"):
            if line != b"@object-format=sha1":
                raise BundleRefused(f"bundles with {line[1:60]!a} are not taken")
        elif found := _REF.fullmatch(line):
            refs[found[2]] = found[1].decode()
        elif not _PREREQUISITE.fullmatch(line):
            raise BundleRefused(f"a line of the bundle's header is not understood: {line[:60]!a}")
    return refs, memoryview(data)[end + 2 :]


def _pack_header(pack: memoryview, most: int) -> None:
    """Gitformat-pack(5): ``PACK``, the version, the number of objects."""
    head = bytes(pack[:_PACK_HEADER])
    if len(head) < _PACK_HEADER or head[:4] != b"PACK":
        raise BundleRefused("the bundle holds no pack")
    count = int.from_bytes(head[8:], "big")
    if count > most:
        raise BundleRefused(
            f"the bundle holds {count:,} objects; {most:,} are taken at most",
            hint="send the two commits and what lies between them, without the history before",
        )


def _said(error: GitFailed) -> str:
    if error.status < 0:
        return f"reading it takes more memory, time or space than it may (signal {-error.status})"
    return " ".join(error.stderr.split())[:300] or f"git ended with {error.status}"
