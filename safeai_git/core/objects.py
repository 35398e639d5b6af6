"""Strict readings of git's own object formats: trees and commits, from their raw bytes.

Git tolerates a good deal when it reads an object that it would never write. What it would never write is either
refused here (`FormatError`: the bytes cannot be taken apart) or reported beside the reading (a *problem*: they can,
and no honest git wrote them). Source of the formats: git, ``tree-walk.c``, ``fsck.c`` and ``commit.c``.
"""

from __future__ import annotations

import codecs
import re
from functools import partial
from itertools import chain
from typing import NamedTuple

from safeai_git.core.edit import MODE_TREE
from safeai_git.core.errors import FormatError

MOST_PARENTS = 256
"""Parents of one commit. The largest merge known to be meant has 66 (Linux, 2cde51fbd0f3)."""

MODES_THAT_GIT_WRITES = frozenset({b"100644", b"100755", b"120000", b"160000", b"40000"})

_ENTRY = {
    20: re.compile(rb"([0-7]{1,7}) ([^\0]+)\0(.{20})", re.DOTALL),
    32: re.compile(rb"([0-7]{1,7}) ([^\0]+)\0(.{32})", re.DOTALL),
}
_HEX = re.compile(rb"(?:[0-9a-f]{40}|[0-9a-f]{64})")
_IDENTITY = re.compile(
    rb"(?P<name>[^<>\n]*?) ?<(?P<email>[^<>\n]*)> (?P<time>-?\d{1,19}) (?P<zone>[+-]\d{2,4})"
)
_CHARACTER_SET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_:.-]{0,40}")
_NO_CHARACTER_SET = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape"})
_ONCE = (b"tree", b"author", b"committer", b"encoding", b"gpgsig", b"gpgsig-sha256")


class TreeEntry(NamedTuple):
    """One entry of a tree object.

    Attributes:
        raw_mode: The mode as it stands there, ASCII octal digits.
        name: The entry's name, one path component.
        raw_id: The object name, 20 or 32 bytes.
    """

    raw_mode: bytes
    name: bytes
    raw_id: bytes

    @property
    def mode(self) -> int:
        """The mode as a number, uncorrected."""
        return int(self.raw_mode, 8)

    @property
    def id(self) -> str:
        """The object name in hex."""
        return self.raw_id.hex()

    @property
    def is_tree(self) -> bool:
        """True for a folder."""
        return int(self.raw_mode, 8) & 0o170000 == MODE_TREE


_MAKE_ENTRY = partial(tuple.__new__, TreeEntry)
"""`TreeEntry._make` without a Python frame for each entry."""


def parse_tree(data: bytes, hash_size: int = 20) -> list[TreeEntry]:
    """The entries of a raw tree object, in its own order.

    Args:
        data: The object's content, without git's header.
        hash_size: 20 bytes in a SHA-1 repository, 32 in a SHA-256 one.

    Raises:
        FormatError: The bytes are not a row of ``mode SP name NUL id``.
    """
    found = _ENTRY[hash_size].findall(data)
    if sum(map(len, chain.from_iterable(found))) + len(found) * len(" \0") != len(data):
        raise FormatError("a tree object cannot be taken apart into entries")
    return list(map(_MAKE_ENTRY, found))


def format_tree(entries: list[TreeEntry]) -> bytes:
    """The inverse of `parse_tree`."""
    return b"".join(b"%b %b\0%b" % entry for entry in entries)


def tree_order(entry: TreeEntry) -> bytes:
    """The key by which git sorts a tree: a folder sorts as if its name ended in ``/``."""
    return entry.name + b"/" if entry.is_tree else entry.name


def tree_problems(
    entries: list[TreeEntry], known: frozenset[TreeEntry] = frozenset()
) -> list[tuple[bytes, str]]:
    """What git's own writer would not have put into this tree: ``(entry name, what)``, empty for a sound tree.

    Args:
        entries: As `parse_tree` returns them.
        known: Entries that stood in the base tree in just this form. An odd mode of theirs is old history and not
            reported again; order and duplicates always are, since they change what the tree means.
    """
    problems: list[tuple[bytes, str]] = []
    names: set[bytes] = set()
    last = b""
    for entry in entries:
        name = entry.name
        if name in names:
            problems.append((name, "the tree holds this name twice"))
        names.add(name)
        order = tree_order(entry)
        if order < last:
            problems.append((name, "the tree is not sorted as git sorts"))
        last = order
        if entry in known:
            continue
        if entry.raw_mode not in MODES_THAT_GIT_WRITES:
            problems.append((name, f"mode {entry.raw_mode.decode()} is none that git writes"))
        if name in (b".", b".."):
            problems.append((name, "a name that walks the tree instead of naming an entry"))
        if b"/" in name:
            problems.append((name, "a slash inside one component"))
        if name.lower() == b".git":
            problems.append((name, "an entry that addresses git's own folder"))
        if not any(entry.raw_id):
            problems.append((name, "an entry that names no object"))
    return problems


class Identity(NamedTuple):
    """Who, and when: an author or committer line.

    ``name`` and ``email`` are the recorded bytes, ``time`` is in seconds since 1970, ``zone`` as recorded.
    """

    name: bytes
    email: bytes
    time: int
    zone: bytes


class Commit(NamedTuple):
    """A commit object, and what is wrong with it.

    Attributes:
        tree: Object name in hex.
        parents: Object names in hex, in order.
        author, committer: ``None`` where the line cannot be read.
        encoding: The declared encoding, ``utf-8`` where none is.
        message: The bytes after the first empty line.
        problems: Sentences; empty for a commit as git writes them.
    """

    tree: str
    parents: tuple[str, ...]
    author: Identity | None
    committer: Identity | None
    encoding: str
    message: bytes
    problems: tuple[str, ...]

    @property
    def text(self) -> str:
        """The message decoded; bytes that do not fit become replacement characters."""
        return self.message.decode(_codec(self.encoding) or "utf-8", "replace")


def _codec(encoding: str) -> str | None:
    """Python's name for a character set that a commit may declare; ``None`` for what is none.

    Python calls more things an encoding than git does: escapes, domain names (their decoders take quadratic time) and
    one that always fails. They would make us read another message than git shows.
    """
    if not _CHARACTER_SET.fullmatch(encoding):
        return None
    try:
        found = codecs.lookup(encoding)
        b"a".decode(found.name, "replace")  # what turns bytes into bytes, or always fails, is refused here
    except (LookupError, UnicodeError):
        return None
    return None if found.name in _NO_CHARACTER_SET else found.name


def _identity(value: bytes) -> Identity | None:
    found = _IDENTITY.fullmatch(value)
    if found is None:
        return None
    return Identity(found["name"].strip(), found["email"].strip(), int(found["time"]), found["zone"])


def parse_commit(data: bytes) -> Commit:
    """Take a raw commit object apart.

    Raises:
        FormatError: It does not begin with a tree and its parents, which is all that git needs of it, or has more
            than `MOST_PARENTS`.
    """
    head, separator, message = data.partition(b"\n\n")
    if not separator:
        head = data.removesuffix(b"\n")
    problems: list[str] = []
    headers: list[tuple[bytes, bytes]] = []
    for line in head.split(b"\n"):
        # What continues a signature or a merged tag begins with a space: a header without a name, which counts only
        # where git reads line by line, between the tree and the committer.
        key, _, value = line.partition(b" ")
        headers.append((key, value))
    if headers[0][0] != b"tree" or not _HEX.fullmatch(headers[0][1]):
        raise FormatError("a commit object does not begin with its tree")
    parents: list[str] = []
    for key, value in headers[1:]:
        if key != b"parent":
            break
        if not _HEX.fullmatch(value):
            raise FormatError("a commit object names a parent that is no object name")
        parents.append(value.decode())
    if len(parents) > MOST_PARENTS:
        raise FormatError(f"a commit object names {len(parents):,} parents; at most {MOST_PARENTS} are read")
    rest = headers[1 + len(parents) :]
    if any(key == b"parent" for key, _ in rest):
        problems.append("a parent line stands where git does not read it")
    if [key for key, _ in rest[:2]] != [b"author", b"committer"]:
        problems.append("author and committer do not follow the parents")
    values = dict(reversed(headers))  # the first of each counts, as in git
    counted = [key for key, _ in headers]
    problems += [
        f"{key.decode()} is given {counted.count(key)} times" for key in _ONCE if counted.count(key) > 1
    ]
    if b"\0" in data:
        problems.append("a NUL byte stands in the commit: git shows only what comes before it")
    author, committer = _identity(values.get(b"author", b"")), _identity(values.get(b"committer", b""))
    problems += [
        f"the {name} line cannot be read"
        for name, who in (("author", author), ("committer", committer))
        if not who
    ]
    encoding = values.get(b"encoding", b"utf-8").decode("ascii", "replace")
    codec = _codec(encoding)
    if codec is None:
        problems.append(f"the encoding {encoding!r} is not known")
    elif b"encoding" in values:
        try:
            message.decode(codec)
        except UnicodeError:
            problems.append(f"the message is not in the declared encoding {encoding!r}")
    return Commit(
        tree=headers[0][1].decode(),
        parents=tuple(parents),
        author=author,
        committer=committer,
        encoding=encoding,
        message=message,
        problems=tuple(problems),
    )
