"""How many lines and bytes an edit adds and removes, as git counts them."""

from __future__ import annotations

import importlib

MOST_COMPARED_LINES = 50_000
"""Lines, of both sides together and after the equal ends are put aside, above which they count as replaced whole."""


def line_counts(old: bytes, new: bytes) -> tuple[int, int, int, int, bool]:
    """Compare two texts line by line, as git does (xdiff's Myers without heuristics of any configuration).

    Returns:
        Bytes added, bytes removed, lines added, lines removed, and whether the middle was too large to compare and
        counts as replaced whole.
    """
    if not old or not new:
        return len(new), len(old), _lines(new), _lines(old), False
    whole_old, whole_new = old, new
    head = _common_head(old, new)
    old, new = old[head:], new[head:]
    tail = _common_tail(old, new)
    old, new = old[: len(old) - tail], new[: len(new) - tail]
    old_lines, new_lines = _lines(old), _lines(new)
    if not old or not new:
        return len(new), len(old), new_lines, old_lines, False
    if old_lines + new_lines > MOST_COMPARED_LINES:
        return len(new), len(old), new_lines, old_lines, True
    if _lines_of(old).isdisjoint(_lines_of(new)):
        return len(new), len(old), new_lines, old_lines, False
    # Loaded here, since most edits of an agent are answered above, and libgit2 takes longer than all the rest.
    # The whole texts, since xdiff weighs a line by how often it stands in them: this way its answer is git's.
    counted: tuple[int, int, int, int] = importlib.import_module("safeai_git.git.xdiff").counts(
        whole_old, whole_new
    )
    return *counted, False


def _lines_of(text: bytes) -> set[bytes]:
    lines = text.split(b"\n")
    last = (
        lines.pop()
    )  # without a line feed at its end: another line than one with it, so it is given what none has
    return {*lines, last + b"\n"} if last else set(lines)


def _lines(text: bytes) -> int:
    return text.count(b"\n") + (not text.endswith(b"\n") if text else 0)


def _common_head(old: bytes, new: bytes) -> int:
    """Bytes of the whole lines that both begin with."""
    return old.rfind(b"\n", 0, _common_prefix(old, new)) + 1


def _common_tail(old: bytes, new: bytes) -> int:
    """Bytes of the whole lines that both end with."""
    length = _common_prefix(old[::-1], new[::-1])
    if length == len(old) == len(new):
        return length
    start = old.find(b"\n", len(old) - length)
    return len(old) - start - 1 if start >= 0 else 0


def _common_prefix(one: bytes, other: bytes) -> int:
    """Length of the longest common prefix, by halving: comparing slices runs at the speed of memory."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while low + 1 < high:
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low
