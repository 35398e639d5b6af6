"""What is to be written for a tree: its objects walked, every name judged, everything counted, nothing written yet."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache

import msgspec
from msgspec import Struct

from safeai_git.core.display import display
from safeai_git.core.edit import MODE_GITLINK, MODE_SYMLINK, MODE_TREE
from safeai_git.core.errors import CouldNotDecide, FormatError, ObjectCorrupt
from safeai_git.core.objects import TreeEntry, parse_tree
from safeai_git.core.paths import fold
from safeai_git.parallel import in_processes

Read = Callable[[str], tuple[str, bytes]]
Size = Callable[[str], int]
Shared = Callable[[], bool]

APART = 500
"""Folders that wait to be surveyed, from which on it pays to do it in several processes."""
_LEAST_OF_A_PROCESS = 100

KIND = 0o170000
_LONGEST_NAME = 255
_LONGEST_LINK = 4095
_LARGER = "replay on a smaller tree, or leave the check to a machine with larger limits"


class TreeLimits(Struct, frozen=True):
    """How large a tree may be that is written.

    Attributes:
        entries: Files, links and folders together.
        bytes: Of all files.
        blob_bytes: Of one file, which is held in memory while it is written.
        tree_bytes: Of one tree object.
        depth: Folders below each other.
    """

    entries: int = 500_000
    bytes: int = 4 * 2**30
    blob_bytes: int = 512 * 2**20
    tree_bytes: int = 64 * 2**20
    depth: int = 128


class Materialised(Struct, frozen=True):
    """What was written.

    Attributes:
        files, links, folders, gitlinks: Their numbers; a gitlink becomes an empty folder.
        bytes: Of all files.
    """

    files: int
    links: int
    folders: int
    gitlinks: int
    bytes: int

    @property
    def entries(self) -> int:
        """Everything that has a name."""
        return self.files + self.links + self.folders + self.gitlinks


@dataclass(slots=True)
class Folder:
    """A folder of the plan: where it hangs, and what is to be written into it.

    ``gone`` is what it hides of a layer below; ``part`` who writes it, where that is divided.
    """

    path: bytes
    depth: int
    files: list[TreeEntry] = field(default_factory=list)
    links: list[TreeEntry] = field(default_factory=list)
    folders: list[tuple[bytes, Folder]] = field(default_factory=list)
    gitlinks: list[bytes] = field(default_factory=list)
    gone: list[bytes] = field(default_factory=list)
    part: int | None = None


@dataclass(slots=True)
class Plan:
    """All of it: the folder to begin with, how many of each kind, the bytes of all files, and the size of each blob."""

    root: Folder
    files: int = 0
    links: int = 0
    folders: int = 0
    gitlinks: int = 0
    total: int = 0
    sizes: dict[bytes, int] = field(default_factory=dict)

    @classmethod
    def empty(cls) -> Plan:
        """Of nothing."""
        return cls(Folder(b"", 0))

    @property
    def entries(self) -> int:
        """Everything that will have a name."""
        return self.files + self.links + self.folders + self.gitlinks

    def take(self, folder: Folder, part: Plan) -> None:
        """Take over what was found beneath one of its folders."""
        found = part.root
        folder.files, folder.links, folder.folders = found.files, found.links, found.folders
        folder.gitlinks = found.gitlinks
        self.files += part.files
        self.links += part.links
        self.folders += part.folders
        self.gitlinks += part.gitlinks
        self.total += part.total
        self.sizes |= part.sizes

    @property
    def counts(self) -> Materialised:
        """What there will be when it is written."""
        return Materialised(self.files, self.links, self.folders, self.gitlinks, self.total)


_PLAN = msgspec.msgpack.Decoder(Plan)


def survey(read: Read, tree_id: str, size: Size, limits: TreeLimits, shared: Shared = lambda: True) -> Plan:
    """Walk the tree objects, judge every name and sum up, without writing anything.

    From the top folder by folder; once many wait to be gone into, in a process for each core, where copies of this one
    may read too (`shared`, see `ObjectStore.serves_many`).
    """
    plan = Plan.empty()
    waiting = deque([(tree_id, plan.root)])
    while waiting and len(waiting) < APART:
        waiting += _survey_folder(read, *waiting.popleft(), plan, size, limits)
    here = os.getpid()

    def beneath(one: tuple[str, Folder]) -> Plan | bytes:
        part = Plan(Folder(one[1].path, one[1].depth))
        ahead = [(one[0], part.root)]
        while ahead:
            ahead += _survey_folder(read, *ahead.pop(), part, size, limits)
        return part if os.getpid() == here else msgspec.msgpack.encode(part)

    least = _LEAST_OF_A_PROCESS if waiting and shared() else len(waiting) + 1
    with closing(in_processes(beneath, list(waiting), least)) as found:
        for (_, folder), part in zip(waiting, found, strict=True):
            plan.take(folder, part if isinstance(part, Plan) else _PLAN.decode(part))
            if plan.entries > limits.entries:
                raise too_many(limits)
            if plan.total > limits.bytes:
                raise too_long(limits)
    return plan


def _survey_folder(
    read: Read, name: str, folder: Folder, plan: Plan, size: Size, limits: TreeLimits
) -> list[tuple[str, Folder]]:
    """One folder; gives back those in it, which are to be surveyed next."""
    found = judged(read, name, size, limits, folder)
    if plan.entries + len(found) > limits.entries:
        raise too_many(limits)
    for entry in found:
        sort_in(entry, folder, plan, size, limits)
    return [(entry.id, below) for entry, (_, below) in zip(_trees(found), folder.folders, strict=True)]


def judged(read: Read, name: str, size: Size, limits: TreeLimits, folder: Folder) -> list[TreeEntry]:
    """The entries of a folder, once its depth, its size and every name in it are found right."""
    check_depth(folder, limits)
    check_size(name, size, limits)
    found = entries_of(read, name)
    check_names(found, folder)
    return found


def check_depth(folder: Folder, limits: TreeLimits) -> None:
    """Refuse folders too deep below each other."""
    if folder.depth > limits.depth:
        raise CouldNotDecide(f"{display(folder.path)} is more than {limits.depth} folders deep", hint=_LARGER)


def check_size(name: str, size: Size, limits: TreeLimits) -> None:
    """Refuse a tree object that is too large to be read."""
    if size(name) > limits.tree_bytes:
        raise CouldNotDecide(f"tree {name} is larger than {limits.tree_bytes:,} bytes", hint=_LARGER)


def entries_of(read: Read, name: str) -> list[TreeEntry]:
    """The entries of a tree, not judged."""
    return parse_tree(raw_tree(read, name), len(name) // 2)


def raw_tree(read: Read, name: str) -> bytes:
    """The bytes of a tree, not judged."""
    kind, data = read(name)
    if kind != "tree":
        raise ObjectCorrupt(
            f"object {name} is a {kind} where a tree was expected", hint="run 'git fsck --full'"
        )
    return data


def _trees(found: list[TreeEntry]) -> list[TreeEntry]:
    return [entry for entry in found if entry.is_tree]


def _are_plain(names: list[bytes]) -> bool:
    """Whether nothing of what `check_names` looks for can be among them, told from all of them at once."""
    together = b"\0".join(names)
    return (
        together.isascii()
        and b"git" not in together.lower()
        and b"/" not in together
        and b"." not in names
        and b".." not in names
        and len(set(names)) == len(names)
        and len(max(names, key=len, default=b"")) <= _LONGEST_NAME
    )


def check_names(found: list[TreeEntry], folder: Folder) -> None:
    """Refuse names that walk, address git's own folder, or stand twice."""
    if _are_plain([entry.name for entry in found]):
        return
    names: set[bytes] = set()
    for entry in found:
        name = entry.name
        if name in (b".", b"..") or b"/" in name:
            raise _malformed(folder, name, "a name that walks the tree instead of naming an entry")
        if len(name) > _LONGEST_NAME:
            raise _malformed(folder, name[:_LONGEST_NAME], f"a name of more than {_LONGEST_NAME} bytes")
        if (not name.isascii() or b"git" in name.lower()) and b".git" in fold(name).split(b"/"):
            raise _malformed(folder, name, "a name that some system takes for git's own folder")
        if name in names:
            raise _malformed(folder, name, "a name that stands twice in one folder")
        names.add(name)


def sort_in(entry: TreeEntry, folder: Folder, plan: Plan, size: Size, limits: TreeLimits) -> None:
    """Put an entry into the plan, if it is of a kind and size that is written."""
    kind = _kind(entry.raw_mode)
    if kind == MODE_TREE:
        below = Folder(folder.path + entry.name + b"/", folder.depth + 1)
        folder.folders.append((entry.name, below))
        plan.folders += 1
    elif kind == MODE_GITLINK:
        folder.gitlinks.append(entry.name)
        plan.gitlinks += 1
    elif kind in (stat.S_IFREG, MODE_SYMLINK):
        length = plan.sizes.get(entry.raw_id)
        if length is None:
            length = plan.sizes[entry.raw_id] = size(entry.id)
        link = kind == MODE_SYMLINK
        if length > (_LONGEST_LINK if link else limits.blob_bytes):
            raise _too_large(folder, entry, length)
        if link:
            folder.links.append(entry)
            plan.links += 1
            return
        folder.files.append(entry)
        plan.files += 1
        plan.total += length
        if plan.total > limits.bytes:
            raise too_long(limits)
    else:
        raise _malformed(
            folder, entry.name, f"an entry of mode {entry.mode:o}, which is no kind that git writes"
        )


@lru_cache(maxsize=64)
def _kind(raw_mode: bytes) -> int:
    """What an entry is, by its mode; there are but five that git writes."""
    return int(raw_mode, 8) & KIND


def _malformed(folder: Folder, name: bytes, what: str) -> FormatError:
    return FormatError(
        f"the tree cannot be written: {display(folder.path + name)}: {what}", hint="reject the commit"
    )


def _too_large(folder: Folder, entry: TreeEntry, length: int) -> CouldNotDecide:
    return CouldNotDecide(
        f"{display(folder.path + entry.name)} has {length:,} bytes, too many to write", hint=_LARGER
    )


def too_many(limits: TreeLimits) -> CouldNotDecide:
    """For the sum of all."""
    return CouldNotDecide(f"the tree has more than {limits.entries:,} entries", hint=_LARGER)


def too_long(limits: TreeLimits) -> CouldNotDecide:
    """For the sum of all."""
    return CouldNotDecide(f"the files of the tree are larger than {limits.bytes:,} bytes", hint=_LARGER)
