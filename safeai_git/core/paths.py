"""What a path is: its identity for deny and protect, its portability, and how it is written down.

Paths are bytes as git records them, ``/`` between the components. `fold` maps every spelling that some file system
takes for the same file to one spelling; `portability_problems` says what is wrong with a name on any system, the
same on all of them; how a path is shown is `safeai_git.core.display`. Every function is total: no path is refused,
whatever its bytes, and all take time linear in it.
"""

from __future__ import annotations

import binascii
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Literal

from msgspec import Struct

from safeai_git.core.display import (
    BIDI_CONTROLS,
    CONTROLS,
    IGNORABLES,
    UNDECODABLE,
    display,
    escape,
    is_composed,
    safe_text,
)
from safeai_git.core.errors import FormatError

__all__ = [
    "FOLDS",
    "Fold",
    "PathProblem",
    "ProblemKind",
    "display",
    "fold",
    "fold_part",
    "from_json",
    "portability_problems",
    "safe_text",
    "to_json",
]

LONGEST_COMPONENT = 255
LONGEST_PATH = 4096
DEEPEST_PATH = 128

_RESERVED = re.compile(r'[<>:"|?*\\]')
_DRIVE = re.compile("[A-Za-z]:")
_AT_THE_END = re.compile(r"[. ](?:/|\Z)")
_FOLDED = re.compile(rb"[a-z0-9_/-]*(?:\.[a-z0-9_-][a-z0-9_/-]*)*")
"""Most paths: none of `FOLDS` finds anything in them."""
_SHORT_NAME = re.compile(r"(?=[^.]{3,8}(?:\.|\Z))([^.~]{1,6})~[1-9][0-9]{0,5}(\.[^.]{0,3})?")

# Microsoft, "Naming Files, Paths, and Namespaces". With any extension, and with spaces before it.
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³"]
)

# The 8.3 names that NTFS gives: the first six letters, or two and a hash (git, path.c, is_ntfs_dot_generic).
_LONG_NAMES = {
    "git": ".git",
    "gitmod": ".gitmodules",
    "gi7eba": ".gitmodules",
    "gitatt": ".gitattributes",
    "gi7d29": ".gitattributes",
    "gitign": ".gitignore",
    "gi250a": ".gitignore",
    "mailma": ".mailmap",
    "maba30": ".mailmap",
    "github": ".github",
    "safeai": ".safeai",
}


def _drop_ignorables(text: str) -> str:
    if text.isascii():
        return text

    def keep(run: re.Match[str]) -> str:
        # Between two undecodable bytes it stays: without it they could become a character, and folding again
        # would then give something else.
        around = (text[run.start() - 1 : run.start()], text[run.end() : run.end() + 1])
        return run[0] if all(map(UNDECODABLE.fullmatch, around)) else ""

    return IGNORABLES.sub(keep, text)


def _decompose(text: str) -> str:
    if text.isascii():
        return text
    if len(text) <= LONGEST_COMPONENT:
        return unicodedata.normalize("NFD", text)
    # Python's own ordering of combining marks is quadratic in the length of a run of them; sorting is not.
    # A mark's class is never 0, a starter's is (Unicode 3.11, D108 and D109).
    decomposed = "".join(unicodedata.normalize("NFD", char) for char in text)
    out: list[str] = []
    marks: list[str] = []
    for char in decomposed:
        if unicodedata.combining(char):
            marks.append(char)
        else:
            out += sorted(marks, key=unicodedata.combining)
            out.append(char)
            marks.clear()
    return "".join(out + sorted(marks, key=unicodedata.combining))


def _cut_stream(component: str) -> str:
    cut = component.find(":", 1)
    return component if cut < 0 else component[:cut]


def _cut_end(component: str) -> str:
    return component.rstrip(". ") or component


def _lengthen(component: str) -> str:
    short = _SHORT_NAME.fullmatch(component)
    return _LONG_NAMES.get(short[1], component) if short and not short[2] else component


def _each(step: Callable[[str], str], text: str) -> str:
    return "/".join(map(step, text.split("/")))


class Fold(Struct, frozen=True):
    """One thing that file systems disregard.

    Attributes:
        name: For tests and documentation.
        apply: From a path to a path, both with undecodable bytes as lone surrogates (PEP 383).
        anywhere: It works on characters, whatever is around them, so it may be applied to parts of a path too.
    """

    name: str
    apply: Callable[[str], str]
    anywhere: bool = False


FOLDS: tuple[Fold, ...] = (
    Fold("ignorables", _drop_ignorables, anywhere=True),
    Fold("canonical", _decompose, anywhere=True),
    Fold("case", str.casefold, anywhere=True),
    Fold("separators", lambda text: text.replace("\\", "/"), anywhere=True),
    Fold("streams", lambda text: _each(_cut_stream, text) if ":" in text else text),
    Fold("trailing", lambda text: _each(_cut_end, text) if _AT_THE_END.search(text) else text),
    Fold("short-names", lambda text: _each(_lengthen, text) if "~" in text else text),
)
"""In this order. Dropping ignorables, decomposing and folding case is what a case-folding ext4 does (Linux,
Documentation/filesystems/ext4, NFDi + CF) and the canonical caseless match of Unicode 3.13, D145; the others are
what Win32 and NTFS do. Decomposed, because then what stands before a `*` in a pattern is still a prefix of what it
matches; the classes of equal paths are those of NFC."""


def fold(path: bytes) -> bytes:
    """A path's identity: two paths that some file system takes for one file fold to the same bytes.

    ``fold(fold(path)) == fold(path)``. Bytes that are not UTF-8 are kept as they are.
    """
    if _FOLDED.fullmatch(path):
        return path
    text = path.decode("utf-8", "surrogateescape")
    for step in FOLDS:
        text = step.apply(text)
    return text.encode("utf-8", "surrogateescape")


def fold_part(text: str) -> str:
    """`fold` for a piece of a path, such as the text between two stars: only what does not need the whole."""
    for step in FOLDS:
        if step.anywhere:
            text = step.apply(text)
    return text


ProblemKind = Literal[
    "encoding",
    "control",
    "bidi",
    "invisible",
    "normalisation",
    "git-alias",
    "short-name",
    "device",
    "drive",
    "reserved-character",
    "trailing",
    "leading-dash",
    "long-component",
    "long-path",
    "deep",
]


class PathProblem(Struct, frozen=True):
    r"""Why a path is trouble on some system, terminal or command line.

    Attributes:
        kind: What a rule grades by.
        what: Reads on from the path: "holds the control character \n". Safe for a terminal.
    """

    kind: ProblemKind
    what: str


def portability_problems(path: bytes) -> list[PathProblem]:
    """Everything that makes a path unportable, each kind once, the same on every operating system."""
    found: dict[ProblemKind, PathProblem] = {}
    components = path.split(b"/")
    for component in components:
        for problem in _problems_of(component):
            found.setdefault(problem.kind, problem)
    if b".git" in fold(path).split(b"/"):
        found["git-alias"] = PathProblem("git-alias", "has a component that some system takes for .git")
    if _DRIVE.match(path[:2].decode("latin-1")):
        found["drive"] = PathProblem("drive", "begins with a drive letter")
    if len(path) > LONGEST_PATH:
        found["long-path"] = PathProblem("long-path", f"is {len(path):,} bytes long, over {LONGEST_PATH:,}")
    if len(components) > DEEPEST_PATH:
        found["deep"] = PathProblem("deep", f"is {len(components):,} components deep, over {DEEPEST_PATH}")
    return list(found.values())


def _problems_of(component: bytes) -> tuple[PathProblem, ...]:
    long = len(component) > LONGEST_COMPONENT  # not worth the memory
    return tuple(_component_problems(component)) if long else _known_problems(component)


@lru_cache(maxsize=8_192)
def _known_problems(component: bytes) -> tuple[PathProblem, ...]:
    """Paths of one repository share most of their components."""
    return tuple(_component_problems(component))


def _component_problems(component: bytes) -> Iterator[PathProblem]:
    text = component.decode("utf-8", "surrogateescape")
    if not text.isascii():
        if bad := UNDECODABLE.search(text):
            yield PathProblem("encoding", f"is not UTF-8: it holds the byte {escape(bad[0])}")
        if bad := BIDI_CONTROLS.search(text):
            yield PathProblem("bidi", f"holds {escape(bad[0])}, which turns the direction of the text")
        if bad := IGNORABLES.search(BIDI_CONTROLS.sub("", text)):
            yield PathProblem("invisible", f"holds the invisible character {escape(bad[0][0])}")
        if len(text) <= LONGEST_COMPONENT and not is_composed(text):
            yield PathProblem("normalisation", f"is not in Unicode's normal form C: {_shown(component)}")
    if bad := CONTROLS.search(text):
        yield PathProblem("control", f"holds the control character {escape(bad[0])}")
    if bad := _RESERVED.search(text):
        yield PathProblem("reserved-character", f"holds the character {bad[0]}, which Windows reserves")
    if "~" in text and _SHORT_NAME.fullmatch(text):
        yield PathProblem("short-name", f"could be another file's short name on Windows: {_shown(component)}")
    if text.partition(".")[0].partition(":")[0].rstrip(" ").casefold() in _DEVICES:
        yield PathProblem("device", f"names a device on Windows: {_shown(component)}")
    if text.endswith((".", " ")):
        yield PathProblem(
            "trailing", f"ends a component in a dot or space, lost on Windows: {_shown(component)}"
        )
    if text.startswith("-"):
        yield PathProblem("leading-dash", f"has a component that reads as an option: {_shown(component)}")
    if len(component) > LONGEST_COMPONENT:
        yield PathProblem(
            "long-component", f"has a component of {len(component):,} bytes, over {LONGEST_COMPONENT}"
        )


def _shown(component: bytes) -> str:
    return display(component[:LONGEST_COMPONENT])


def to_json(path: bytes) -> dict[str, str]:
    """A path as members of a JSON object: ``path``, and ``path_bytes`` (base64) when it is not UTF-8."""
    try:
        return {"path": path.decode()}
    except UnicodeDecodeError:
        return {"path": display(path), "path_bytes": binascii.b2a_base64(path, newline=False).decode()}


def from_json(members: Mapping[str, object]) -> bytes:
    """The path that `to_json` wrote; other members are not looked at.

    Raises:
        FormatError: It is not what `to_json` writes for any path.
    """
    text, encoded = members.get("path"), members.get("path_bytes")
    try:
        if isinstance(text, str) and encoded is None:
            return text.encode()
        if isinstance(encoded, str):
            path = binascii.a2b_base64(encoded, strict_mode=True)
            if to_json(path) == {"path": text, "path_bytes": encoded}:
                return path
    except ValueError:
        pass
    raise FormatError(
        "a path is not written as safeai-git writes paths",
        hint="expected `path` as text, with `path_bytes` in base64 beside it only when the path is not UTF-8",
    )
