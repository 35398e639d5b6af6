"""The facts about a change: what an edit is, what a proposal is.

An `Edit` is one path's change and a `Proposal` is the whole of it. Both are read from git objects by
`safeai_git.git` and hold nothing that a repository's configuration or attributes could have coloured.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

MODE_FILE = 0o100644
MODE_EXECUTABLE = 0o100755
MODE_SYMLINK = 0o120000
MODE_GITLINK = 0o160000
MODE_TREE = 0o040000
ENTRY_MODES = frozenset({MODE_FILE, MODE_EXECUTABLE, MODE_SYMLINK, MODE_GITLINK, MODE_TREE})

Status = Literal["A", "D", "M", "T"]
"""Added, deleted, modified, type changed (file, symlink and gitlink are the types). Git's own letters."""

LinkFate = Literal["inside", "outside", "git", "loop"]
"""Where a symlink leads when it is followed within the proposed tree: to a place inside it (present or not),
out of it, into ``.git``, or round in a circle (and whatever no kernel would follow to its end)."""


class Link(Struct, frozen=True):
    """A symlink as proposed: its raw target (of one that no kernel would take, the beginning) and where it leads."""

    target: bytes
    fate: LinkFate


class LfsPointer(Struct, frozen=True):
    """A Git LFS pointer (git-lfs, docs/spec.md): a small text file that stands for a large one.

    ``size`` is the number of bytes that it declares, ``None`` when it claims to be a pointer and declares none
    that can be believed.
    """

    size: int | None


class Edit(Struct, frozen=True):
    """One path's change between a base tree and a proposed tree. A rename is two: a deletion and an addition.

    Attributes:
        path: The bytes that git records, from the root, ``/`` between the components.
        old_mode, new_mode: Git's file modes; 0 on the side where the path does not exist.
        old_id, new_id: Object names in hex; empty on the side where the path does not exist.
        old_size, new_size: Bytes of the blob on each side; 0 where there is none.
        bytes_added, bytes_removed, lines_added, lines_removed: Of a line by line comparison, each line with its
            terminator; 0 for binary content, symlinks, gitlinks and LFS pointers.
        binary: A NUL stands in the first 8,000 bytes of either side (git's own rule).
        counted_whole: The two sides were too large to compare line by line, so the differing middle counts as
            removed and added whole: never less than the true figure.
        unread: Why the content was not read (an empty string when it was); its size is still right.
        lfs: The pointer, when the proposed content is one.
        link: The symlink, when the proposed entry is one.
        sha256: SHA-256 of the proposed content in hex; empty for deletions, gitlinks and unread content.
    """

    path: bytes
    status: Status
    old_mode: int = 0
    new_mode: int = 0
    old_id: str = ""
    new_id: str = ""
    old_size: int = 0
    new_size: int = 0
    bytes_added: int = 0
    bytes_removed: int = 0
    lines_added: int = 0
    lines_removed: int = 0
    binary: bool = False
    counted_whole: bool = False
    unread: str = ""
    lfs: LfsPointer | None = None
    link: Link | None = None
    sha256: str = ""

    @property
    def size(self) -> int:
        """Bytes that this edit counts for.

        Text: the added lines and the removed lines. Binary content, symlinks and whatever was not read: the larger
        of both sides. An LFS pointer: the size that it declares, if that is more.
        """
        if self.binary or self.unread or MODE_SYMLINK in (self.old_mode, self.new_mode):
            size = max(self.old_size, self.new_size)
        else:
            size = self.bytes_added + self.bytes_removed
        if self.lfs is not None and self.lfs.size is not None:
            size = max(size, self.lfs.size)
        return size


class Malformation(Struct, frozen=True):
    """Something in a proposed tree or commit that git would not write.

    ``where`` is the path of the entry or of the tree that holds it (empty for the commit itself), ``what`` a
    sentence.
    """

    where: bytes
    what: str


class Collision(Struct, frozen=True):
    """An added path that some file systems cannot tell from one that is there already."""

    path: bytes
    other: bytes
