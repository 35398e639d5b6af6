r"""Trailers that were meant, outside the block that git reads, and the footers that tools leave.

In real history 2 to 4 % of the genuine trailers stand where git does not look: a sign-off added as a later paragraph,
a badge or a tool's data below, no blank line above, a message indented or boxed as a whole, a squash of several
messages, a literal ``\n`` that a shell never turned into a line feed. These are read here and count weaker.

What is quoted, fenced, given as an example, or told by a revert is somebody else's trailer and is left out. Every line
is looked at a fixed number of times, so the time is linear in the message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from safeai_git.core.trailers import Trailer

_LINE = re.compile(
    r"(?P<indent>[ \t]*(?:[|│┃║][ \t]*)?)(?P<key>[A-Za-z][A-Za-z]*(?:[ _-][A-Za-z]+){0,4})[ \t]*:[ \t]*(?P<value>\S.*)"
)
_INLINE = re.compile(
    r"(?:^|[ \t]{2}|[.!)\]] )(?P<key>[A-Za-z]{2,12}(?:-[A-Za-z]{2,12}){1,3}): (?P<value>[^:]{2,200})$"
)
_ESCAPED = re.compile(r"\\r?\\n|\\n")
_FENCE = ("```", "~~~")
_EDGES = " \t|│┃║╭╰┌└├┏┗╔╚+"
_OF_GIT_LOG = re.compile(r"Squashed commit of the following|Author: [^<>]{1,200}<[^<>]{1,200}>$")
_LONGEST = 1000
_IN_SUBJECT = frozenset({"ai-assisted", "ai-generated"})
_REVERT = re.compile(r"(?:revert|reverts|reapply)\b[\s\"'“:(!]", re.IGNORECASE)
_ORIGINAL = re.compile(
    r"^[ \t>*#-]*(?:the )?original(?:ly)?[ -](?:commit|message|change|description|pr|pull|text)",
    re.IGNORECASE | re.MULTILINE,
)
_LEAD_IN = re.compile(
    r"(?::|\be\.?g\.?|\b(?:like|following|for example|example|format|instead of|such as))[ \t]*$",
    re.IGNORECASE,
)
_FOOTER = re.compile(
    r"\W{0,8}(?:generated|created|written|made|built|co-authored|authored|assisted|produced)[ \t]+(?:with|by|using|via)\b"
    r"|[-=_*~ \t]+$|\W{0,4}\[?!\[|https?://\S+$",
    re.IGNORECASE,
)


def is_revert(message: str) -> bool:
    """Whether the subject says that another change is taken back (or applied again)."""
    return _REVERT.match(message.lstrip()[:40]) is not None


def retells(message: str) -> bool:
    """Whether a revert repeats the message of what it reverts, trailers and all."""
    return is_revert(message) and _ORIGINAL.search(message) is not None


def loose_trailers(text: str, wanted: Callable[[str], bool]) -> Iterator[Trailer]:
    """Trailers in the part of a message that is not git's block; their keys folded to lower case and dashes.

    Args:
        text: The message without its block.
        wanted: Whether a folded key is of interest; asked before anything else of a line is weighed.
    """
    lines = [line.rstrip() for line in text.split("\n")]
    found = [(number, match) for number, line in enumerate(lines) if (match := _looked_at(line, wanted))]
    if found:
        yield from _genuine(lines, found)
    if "\\n" in text:
        for line in lines:
            yield from _embedded(line, wanted)
    yield from _inline(lines[0], wanted)


def _looked_at(line: str, wanted: Callable[[str], bool]) -> re.Match[str] | None:
    if ":" not in line or len(line) > _LONGEST:
        return None
    match = _LINE.fullmatch(line)
    return match if match and wanted(folded_key(match["key"])) else None


def folded_key(key: str) -> str:
    """A trailer's key in lower case with dashes, however it was written."""
    return key.replace(" ", "-").replace("_", "-").lower()


def _genuine(lines: list[str], found: list[tuple[int, re.Match[str]]]) -> Iterator[Trailer]:
    fenced = _fenced(lines) if any(line.lstrip().startswith(_FENCE) for line in lines) else frozenset()
    candidates = {number for number, _ in found}
    body = [line for line in lines[1:] if line]
    all_indented = all(line[0] in _EDGES for line in body)
    tail = _tail(lines, candidates)
    before = _lines_before(lines, candidates)
    squashed = any(_OF_GIT_LOG.match(line) for line in lines)
    for number, match in found:
        trailer = _trailer(match)
        if number in fenced or (number == 0 and trailer.key not in _IN_SUBJECT):
            continue
        told = _LEAD_IN.search(before[number]) is not None
        if match["indent"]:
            code = match["indent"].startswith(("    ", "\t"))
            genuine = squashed or (not told and (all_indented or (number >= tail and not code)))
        else:
            genuine = number >= tail or not told
        if genuine:
            yield trailer


def _trailer(match: re.Match[str]) -> Trailer:
    return Trailer(folded_key(match["key"]), match["value"].rstrip(" \t|│┃║"))


def _fenced(lines: list[str]) -> frozenset[int]:
    """The lines inside Markdown's fences; a fence that is never closed encloses nothing."""
    marks = [number for number, line in enumerate(lines) if line.lstrip().startswith(_FENCE)]
    pairs = zip(marks[::2], marks[1::2], strict=False)
    return frozenset(number for start, end in pairs for number in range(start, end + 1))


def _tail(lines: list[str], candidates: set[int]) -> int:
    """The first line of the message's end: from there on only trailers, footers and blank lines follow."""
    number = len(lines)
    while number > 1:
        line = lines[number - 1]
        if (
            line
            and number - 1 not in candidates
            and not _FOOTER.match(line)
            and not _LINE.fullmatch(line[:_LONGEST])
        ):
            break
        number -= 1
    return number


def _lines_before(lines: list[str], candidates: set[int]) -> dict[int, str]:
    """For each candidate the nearest line above that is neither blank nor a candidate itself."""
    last, found = "", {}
    for number, line in enumerate(lines):
        if number in candidates:
            found[number] = last
        elif line:
            last = line[-80:]
    return found


def _embedded(line: str, wanted: Callable[[str], bool]) -> Iterator[Trailer]:
    r"""Trailers between literal ``\n``: a message that a shell passed on in one line."""
    for part in _ESCAPED.split(line)[1:]:
        match = _looked_at(part.strip(), wanted)
        if match:
            yield _trailer(match)


def _inline(line: str, wanted: Callable[[str], bool]) -> Iterator[Trailer]:
    """A trailer at the end of the subject, after two blanks: line feeds that were folded away."""
    tail = line[-_LONGEST:]
    match = _INLINE.search(tail)
    if match and wanted(match["key"].lower()) and "@" in match["value"]:
        yield Trailer(match["key"].lower(), match["value"].strip())
