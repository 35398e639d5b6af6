"""Which entries of a tree were replaced, told from the bytes of both trees: most changes touch one of a hundred."""

from __future__ import annotations

import re

from safeai_git.core.objects import TreeEntry

_ENTRY = {
    size: re.compile(rb"([0-7]{1,7}) ([^\0]++)\0(.{%d})" % size, re.DOTALL)
    for size in (20, 32)
}  # fmt: skip
_ENTRIES = {
    size: re.compile(rb"(?:[0-7]{1,7} [^\0]++\0.{%d})*" % size, re.DOTALL)
    for size in (20, 32)
}  # fmt: skip
"""Not possessive as a whole: before Python 3.11.5 that takes a part of an entry for one (gh-106052)."""

MOST = 8
"""For each the rest of both trees is compared anew."""

Pairs = list[tuple[TreeEntry, TreeEntry]]


def replaced(old: bytes, new: bytes, hash_size: int) -> Pairs | None:
    """The entries that differ, before and after, where both trees have the same names in the same order.

    Args:
        old: A raw tree.
        new: Another one.
        hash_size: 20 or 32 bytes.

    Returns:
        What differs; ``None`` where the names differ, more than `MOST` do, or one of them is no tree: whoever wants to
        know reads both.
    """
    pairs: Pairs = []
    here = there = 0
    while len(pairs) <= MOST:
        same = _common(old, here, new, there)
        whole = _ENTRIES[hash_size].match(old, here, here + same)
        passed = whole.end() - here if whole else 0
        here, there = here + passed, there + passed
        if here == len(old) and there == len(new):
            return pairs
        was, now = _ENTRY[hash_size].match(old, here), _ENTRY[hash_size].match(new, there)
        if was is None or now is None or was[2] != now[2]:
            return None
        pairs.append((TreeEntry(*was.groups()), TreeEntry(*now.groups())))
        here, there = was.end(), now.end()
    return None


def _common(one: bytes, at: int, other: bytes, there: int) -> int:
    """How many bytes are the same from two places on, by halving: comparing slices runs at the speed of memory."""
    low, high = 0, min(len(one) - at, len(other) - there)
    if one[at : at + high] == other[there : there + high]:
        return high
    while low + 1 < high:
        middle = (low + high) // 2
        if one[at + low : at + middle] == other[there + low : there + middle]:
            low = middle
        else:
            high = middle
    return low
