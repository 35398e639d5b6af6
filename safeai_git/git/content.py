"""From a changed path to an `Edit`: sizes, line counts, LFS pointers and where symlinks lead, from the blobs alone."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Callable
from typing import Any

from safeai_git.core.edit import MODE_GITLINK, MODE_SYMLINK, Edit, LfsPointer, Link, LinkFate, Status
from safeai_git.core.errors import FormatError, ObjectCorrupt
from safeai_git.core.objects import TreeEntry
from safeai_git.core.paths import fold
from safeai_git.git.changes import EMPTY_TREE, Change, Side, TreeComparer
from safeai_git.git.lines import line_counts
from safeai_git.git.store import ObjectStore

LARGEST_READ = 32 * 1024 * 1024
"""Bytes of a blob above which its content is not read; its size is known all the same."""

MOST_READ = 512 * 1024 * 1024
"""Bytes of all blobs of one change together after which no further content is read: one blob may stand under many
names."""

_BINARY_WINDOW = 8_000  # git, xdiff-interface.c: FIRST_FEW_BYTES
_LONGEST_LFS_POINTER = 1_024  # git-lfs, docs/spec.md: a pointer is smaller than that
_LFS_VERSION = re.compile(
    rb"version (?:https://(?:git-lfs|hawser)\.github\.com/spec/v\d+|http://git-media\.io/v/2)(?:\n|\Z)"
)
_LFS_SIZE = re.compile(rb"^size (0|[1-9][0-9]{0,18})$", re.MULTILINE)
_MOST_LINK_STEPS = 40  # Linux, path_resolution(7): MAXSYMLINKS
_LONGEST_TARGET = 4_096  # Linux, limits.h: PATH_MAX
_MOST_LINK_PARTS = 4_096


def lfs_pointer(content: bytes) -> LfsPointer | None:
    """Read a Git LFS pointer; ``None`` when the content does not claim to be one.

    As lenient as git-lfs itself (``lfs/pointer.go``): white space around it, empty lines and carriage returns do not
    count.
    """
    if len(content) >= _LONGEST_LFS_POINTER:
        return None
    text = b"\n".join(content.strip().splitlines())
    if not _LFS_VERSION.match(text):
        return None
    sizes = _LFS_SIZE.findall(text)
    return LfsPointer(int(sizes[0]) if len(sizes) == 1 else None)


def resolve_link(comparer: TreeComparer, root: str, path: bytes, target: bytes) -> LinkFate:
    """Follow a symlink the way a kernel would, but inside the proposed tree.

    Args:
        comparer: Reads the tree's folders.
        root: The proposed tree.
        path: Where the link stands.
        target: What it says.

    Returns:
        Where it leads. A part that is not there is taken for an ordinary folder. What no kernel would follow to its
        end (a target that is too long, too many links or parts on the way) is a ``loop``.
    """
    place: list[bytes] = path.split(b"/")[:-1]
    if _is_absolute(target):
        return "outside"
    if len(target) > _LONGEST_TARGET:
        return "loop"
    pending = deque(_components(target))
    steps = parts = 0
    while pending:
        part = pending.popleft()
        parts += 1
        if parts > _MOST_LINK_PARTS:
            return "loop"
        if part == b"..":
            if not place:
                return "outside"
            place.pop()
            continue
        if fold(part) == b".git":
            return "git"
        found = _entry(comparer, root, [*place, part])
        if found is None or found.mode != MODE_SYMLINK:
            place.append(part)
            continue
        steps += 1
        if steps > _MOST_LINK_STEPS or comparer.store.header(found.id)[1] > _LONGEST_TARGET:
            return "loop"
        _, onward = comparer.store.read(found.id)
        if _is_absolute(onward):
            return "outside"
        pending.extendleft(reversed(_components(onward)))
    return "inside"


def _is_absolute(target: bytes) -> bool:
    """Of any system: a root, or a drive."""
    return target.startswith((b"/", b"\\")) or target[1:2] == b":"


def _components(target: bytes) -> list[bytes]:
    return [part for part in target.split(b"/") if part not in (b"", b".")]


def _entry(comparer: TreeComparer, root: str, parts: list[bytes]) -> TreeEntry | None:
    tree, found = root, None
    for index, part in enumerate(parts):
        try:
            found = comparer.entry(tree, part)
        except FormatError:
            return None
        if found is None or (index < len(parts) - 1 and not found.is_tree):
            return None
        tree = found.id
    return found


class EditReader:
    """Turns changes into edits, reading each blob once.

    Args:
        comparer: For the folders that symlinks lead through.
        store: Where the blobs are.
        check: Called between blobs; raises when the time is used up.
    """

    def __init__(self, comparer: TreeComparer, store: ObjectStore, *, check: Callable[[], None]) -> None:
        self._comparer = comparer
        self._store = store
        self._check = check
        self._left = MOST_READ

    def begin(self) -> None:
        """Start a new change: `MOST_READ` counts from here."""
        self._left = MOST_READ

    def edit(self, change: Change, new_tree: str) -> Edit:
        """The edit that a change is.

        Raises:
            ObjectMissing, ObjectCorrupt: A blob cannot be had.
        """
        self._check()
        old, new = change.old or Side(0, ""), change.new or Side(0, "")
        old_size, new_size = self._size(old), self._size(new)
        if max(old_size, new_size) > LARGEST_READ:
            return _unread(change, old_size, new_size, f"larger than {LARGEST_READ} bytes")
        self._left -= old_size + new_size
        if self._left < 0:
            return self.beyond(change, old_size, new_size)
        before = self._content(old)
        after = before if old.id == new.id else self._content(new)
        values = _common(change.path, old, new, old_size, new_size)
        values["sha256"] = hashlib.sha256(after).hexdigest() if new.id and new.mode != MODE_GITLINK else ""
        if new.mode == MODE_SYMLINK:
            fate = resolve_link(self._comparer, new_tree or EMPTY_TREE, change.path, after)
            if fate == "inside" and b"\\" in after:  # a separator on Windows
                slashes = after.replace(b"\\", b"/")
                fate = resolve_link(self._comparer, new_tree or EMPTY_TREE, change.path, slashes)
            values["link"] = Link(after[: _LONGEST_TARGET + 1], fate)
        elif new.mode != MODE_GITLINK:
            values["lfs"] = lfs_pointer(after)
        values["binary"] = b"\0" in before[:_BINARY_WINDOW] or b"\0" in after[:_BINARY_WINDOW]
        if not values["binary"] and MODE_SYMLINK not in (old.mode, new.mode) and before != after:
            names = ("bytes_added", "bytes_removed", "lines_added", "lines_removed", "counted_whole")
            values |= zip(names, line_counts(before, after), strict=True)
        return Edit(**values)

    def beyond(self, change: Change, old_size: int, new_size: int) -> Edit:
        """The edit that a change is beyond `MOST_READ`."""
        return _unread(change, old_size, new_size, f"beyond the first {MOST_READ} bytes of the change")

    def _size(self, side: Side) -> int:
        if not side.id or side.mode == MODE_GITLINK:
            return 0
        kind, size = self._store.header(side.id)
        if kind != "blob":
            raise ObjectCorrupt(
                f"object {side.id} is a {kind} where a blob was expected", hint="run 'git fsck --full'"
            )
        return size

    def _content(self, side: Side) -> bytes:
        if not side.id or side.mode == MODE_GITLINK:
            return b""
        return self._store.read(side.id)[1]


def _unread(change: Change, old_size: int, new_size: int, why: str) -> Edit:
    old, new = change.old or Side(0, ""), change.new or Side(0, "")
    common = _common(change.path, old, new, old_size, new_size)
    return Edit(**common, unread=f"{why}, so its content was not read")


def _common(path: bytes, old: Side, new: Side, old_size: int, new_size: int) -> dict[str, Any]:
    return {
        "path": path,
        "status": _status(old, new),
        "old_mode": old.mode,
        "new_mode": new.mode,
        "old_id": old.id,
        "new_id": new.id,
        "old_size": old_size,
        "new_size": new_size,
    }


def _status(old: Side, new: Side) -> Status:
    if not old.id:
        return "A"
    if not new.id:
        return "D"
    return "M" if old.mode >> 12 == new.mode >> 12 else "T"
