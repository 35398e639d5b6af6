"""Patches in the form of Codex's ``apply_patch`` (openai/codex, ``codex-rs/apply-patch``), which others took over.

Lines are found as that tool finds them: exactly, then without blanks at their ends, then without blanks around them.
What does not fit raises: the tool would fail, or do what is not foreseen here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from safeai_git.core.errors import FormatError

_BEGIN, _END = "*** Begin Patch", "*** End Patch"
_ADD, _DELETE, _UPDATE, _MOVE = "*** Add File: ", "*** Delete File: ", "*** Update File: ", "*** Move to: "
_END_OF_FILE = "*** End of File"


class FilePatch(NamedTuple):
    """What is done to one file: ``add`` (with its lines), ``delete`` or ``update`` (with hunks, perhaps moved)."""

    kind: str
    path: str
    lines: tuple[str, ...] = ()
    moved: str = ""


def parse(text: str) -> list[FilePatch]:
    """Take a patch apart.

    Raises:
        FormatError: It is none.
    """
    lines = text.strip().split("\n")
    lines = [line.removesuffix("\r") for line in lines]
    if len(lines) < 2 or lines[0].strip() != _BEGIN or lines[-1].strip() != _END:
        raise FormatError("the patch does not begin and end as one of apply_patch")
    found = list(_files(lines[1:-1]))
    if not found:
        raise FormatError("the patch holds no file")
    return found


def _files(lines: list[str]) -> Iterator[FilePatch]:
    at = 0
    while at < len(lines):
        head = lines[at].strip()
        at += 1
        if not head:
            continue
        kind = next((one for one in (_ADD, _DELETE, _UPDATE) if head.startswith(one)), "")
        if not kind:
            raise FormatError(f"a line of the patch is not understood: {head[:80]!r}")
        path, moved = head.removeprefix(kind).strip(), ""
        if kind == _UPDATE and at < len(lines) and lines[at].strip().startswith(_MOVE):
            moved = lines[at].strip().removeprefix(_MOVE).strip()
            at += 1
        begin = at
        while at < len(lines) and not lines[at].startswith((_ADD, _DELETE, _UPDATE)):
            at += 1
        body = tuple(lines[begin:at])
        if kind == _ADD:
            if not all(line.startswith("+") for line in body):
                raise FormatError("a line of an added file does not begin with '+'")
            body = tuple(line[1:] for line in body)
        if kind == _DELETE and any(map(str.strip, body)):
            # to a tool that is lenient about blanks it may be the head of another file
            raise FormatError(f"a line follows a deleted file: {body[0][:80]!r}")
        yield FilePatch({_ADD: "add", _DELETE: "delete", _UPDATE: "update"}[kind], path, body, moved)


def updated(content: bytes, hunks: tuple[str, ...]) -> bytes:
    """A file's content after the hunks.

    Raises:
        FormatError: The lines of a hunk are not there.
    """
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    if lines[-1] == "":
        lines.pop()
    at = 0
    for context, old, new, at_end in _hunks(hunks):
        if context:
            at = _found(lines, [context], at, at_end=False) + 1
        if not old and not new:
            continue  # one context within another
        place = _found(lines, old, at, at_end=at_end) if old else len(lines)
        lines[place : place + len(old)] = new
        at = place + len(new)
    text = "\n".join(lines) + "\n" if lines else ""
    return text.encode("utf-8", "surrogateescape")


def _hunks(body: tuple[str, ...]) -> Iterator[tuple[str, list[str], list[str], bool]]:
    """The context line, the old lines, the new ones, and whether they stand at the file's end."""
    context, old, new, at_end, begun = "", list[str](), list[str](), False, False
    for line in body:
        if line.startswith("@@"):
            if begun:
                yield context, old, new, at_end
            context, old, new, at_end, begun = line[2:].strip(), [], [], False, True
        elif line == _END_OF_FILE:
            at_end = True
        else:
            begun = True
            mark, rest = line[:1], line[1:]
            if mark not in ("", " ", "+", "-"):
                raise FormatError(f"a line of a hunk is not understood: {line[:80]!r}")
            if mark != "+":
                old.append(rest)
            if mark != "-":
                new.append(rest)
    if begun:
        yield context, old, new, at_end


_WAYS: tuple[Callable[[str], str], ...] = (lambda line: line, str.rstrip, str.strip)


def _found(lines: list[str], wanted: list[str], begin: int, *, at_end: bool) -> int:
    last = len(lines) - len(wanted)
    starts = [last, *range(begin, last + 1)] if at_end and last >= begin else range(begin, last + 1)
    for way in _WAYS:
        meant = list(map(way, wanted))
        for at in starts:
            if way(lines[at]) == meant[0] and list(map(way, lines[at : at + len(wanted)])) == meant:
                return at
    raise FormatError("lines of the patch do not occur in the file", hint="read the file again")
