"""Git's own trailer block, read exactly as ``git interpret-trailers --parse`` reads it.

A port of what git 2.39 does (git, ``trailer.c``: ``find_trailer_start``, ``find_patch_start``, ``trailer_info_get``,
``parse_trailer``, ``unfold_value``; ``commit.c``: ``ignore_non_trailer``; ``wt-status.c``: ``wt_status_locate_end``),
with git's own idea of a blank (space, tab, line feed, carriage return; nothing of Unicode) and without any
``trailer.*`` configuration. Every step looks at a line once, so a hostile message of megabytes costs linear time.

What it refuses to do is guess: a line that git would not read as a trailer is none here (`trailers_loose` reads those).
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Trailer(NamedTuple):
    """``key: value`` from a commit message; the key in lower case, a folded value on one line."""

    key: str
    value: str


class Block(NamedTuple):
    """Where the block stands in a message, and what is in it.

    Attributes:
        start, end: Character offsets; both the end of what git looks at where there is no block.
        pairs: Key and value as git prints them, the key in the author's own case.
    """

    start: int
    end: int
    pairs: list[tuple[str, str]]


_BLANK = " \t\n\r"
_COMMENT = "#"
_CUT_LINE = "# ------------------------ >8 ------------------------\n"
_GIT_GENERATED = ("Signed-off-by: ", "(cherry picked from commit ")
_TOKEN = re.compile(r"(?P<key>[A-Za-z0-9-]+)[ \t]*:")
_DIVIDER = re.compile(r"^---[ \t\r\n]", re.MULTILINE)
_FOLD = re.compile(r"\n[ \t\r\n]*")


def trailer_block(message: str) -> tuple[list[Trailer], str]:
    """The trailers that git itself finds in a message, and the text that stands before them."""
    block = read_block(message)
    return [Trailer(key.lower(), value) for key, value in block.pairs], message[: block.start]


def read_block(message: str, *, divider: bool = True) -> Block:
    """Find and read the block.

    Args:
        message: A commit message. Git's strings end at a NUL, so what follows one is not looked at.
        divider: Whether a line ``---`` ends the message, as ``interpret-trailers`` takes it; ``git log`` does not.
    """
    text = message.partition("\0")[0]
    lines = _lines(text, _end(text, divider=divider))
    first = _first_of_block(lines)
    end = sum(map(len, lines))
    start = end - sum(map(len, lines[first:]))
    return Block(start, end, _pairs(lines[first:]))


def _lines(text: str, end: int) -> list[str]:
    """Lines with their line feeds; what follows the last line feed is a line if it is not empty."""
    parts = text[:end].split("\n")
    last = parts.pop()
    lines = [part + "\n" for part in parts]
    if last:
        lines.append(last)
    return lines


def _is_blank(line: str) -> bool:
    return not line.strip(_BLANK)


def _end(text: str, *, divider: bool) -> int:
    """Where git stops to look: at a divider, a cut line, or trailing comments, blank lines and old conflict lists."""
    end = len(text)
    if divider:
        found = _DIVIDER.search(text)
        if found:
            end = found.start()
    if text.startswith(_CUT_LINE, 0, end):
        return 0
    # Git 2.39 finds a cut line below the divider too, and then never ends; later versions look above it only.
    end = text.find("\n" + _CUT_LINE, 0, end) + 1 or end
    run, offset, in_conflicts = 0, 0, False
    for line in _lines(text, end):
        if line[0] in (_COMMENT, "\n"):
            run = run or offset
        elif line == "Conflicts:\n":
            in_conflicts = True
            run = run or offset
        elif run and not (in_conflicts and line[0] == "\t"):
            run, in_conflicts = 0, False
        offset += len(line)
    return run or end


def _first_of_block(lines: list[str]) -> int:
    """The index of the block's first line; the number of lines where there is no block.

    The block is what follows the last blank line, if that is not part of the title, and either all of its lines are
    trailers, or one is of git's own making and at least a quarter are trailers.
    """
    none = len(lines)
    trailers = others = continuations = 0
    generated, only_blanks = False, True
    for index in range(none - 1, -1, -1):  # git stops at the title, above which there is no blank line
        line = lines[index]
        if line[0] == _COMMENT:
            others += continuations
            continuations = 0
        elif _is_blank(line):
            if only_blanks:
                continue
            others += continuations
            found = trailers * 3 >= others if generated else not others  # the block is not empty here
            return index + 1 if found else none
        else:
            only_blanks = False
            if line.startswith(_GIT_GENERATED):
                generated = True
                trailers += 1
                continuations = 0
            elif line[0] in _BLANK:
                continuations += 1
            elif _TOKEN.match(line):
                trailers += 1
                continuations = 0
            else:
                others += 1 + continuations
                continuations = 0
    return none


def _pairs(lines: list[str]) -> list[tuple[str, str]]:
    found: list[tuple[str, list[str]]] = []
    open_value = False
    for line in lines:
        if open_value and line[0] in _BLANK:
            found[-1][1].append(line)
            continue
        token = _TOKEN.match(line)
        open_value = token is not None
        if token:
            found.append((token["key"], [line[token.end() :]]))
    return [(key, _unfold("".join(value))) for key, value in found]


def _unfold(value: str) -> str:
    return _FOLD.sub(" ", value.strip(_BLANK)).strip(_BLANK)
