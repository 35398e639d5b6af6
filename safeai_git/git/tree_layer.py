"""Only what a tree has that another has not, and what it lacks, for a layer over a folder that holds the other.

The judgement is that of a tree that is written whole: what both have was judged when the other was written.
"""

from __future__ import annotations

import stat

from safeai_git.core.edit import MODE_GITLINK, MODE_SYMLINK
from safeai_git.core.objects import TreeEntry, parse_tree
from safeai_git.git.tree_difference import replaced
from safeai_git.git.tree_plan import (
    KIND,
    Folder,
    Materialised,
    Plan,
    Read,
    Size,
    TreeLimits,
    check_depth,
    check_names,
    check_size,
    entries_of,
    judged,
    raw_tree,
    sort_in,
    too_long,
    too_many,
)

_TURN = 200
"""Folders of which the trees below are read before the new ones; their sizes were asked when they were written."""


def survey_difference(
    read: Read, old: str, new: str, size: Size, limits: TreeLimits, held: Materialised, most: int
) -> tuple[Plan, Materialised] | None:
    """What a layer must hold that makes one tree of another, and what there is of it then.

    Args:
        read: As for `survey`.
        old: Name of the tree that lies below, once surveyed and written whole.
        new: Name of the tree that is wanted.
        size: As for `survey`.
        limits: For the wanted tree as a whole.
        held: What the old tree holds.
        most: Entries that came and went, above which a layer is not worth its while.

    Returns:
        The plan of the layer, or ``None`` when it would be larger than that.

    Raises:
        FormatError, CouldNotDecide, ObjectMissing, ObjectCorrupt: As for writing the tree whole.
    """
    plan, lost = Plan.empty(), Plan.empty()
    waiting: list[tuple[str, str, Folder]] = [(old, new, plan.root)]
    ahead: list[tuple[bytes | None, str, Folder]] = []
    while waiting or ahead:
        if not ahead:
            # Read one after the other: those mostly lie in packs, and the new ones in files.
            turn, waiting = waiting[-_TURN:], waiting[:-_TURN]
            ahead = [(raw_tree(read, below) if below else None, name, folder) for below, name, folder in turn]
        lower, name, folder = ahead.pop()
        wanted, there = _differing(read, lower, name, size, limits, folder)
        same = set(wanted).intersection(there)
        before = {entry.name: entry for entry in there if entry not in same}
        for entry in wanted:
            if entry in same:
                continue
            was = before.pop(entry.name, None)
            sort_in(entry, folder, plan, size, limits)
            under = was.id if was is not None and was.is_tree else ""
            if entry.is_tree:
                waiting.append((under, entry.id, folder.folders[-1][1]))
                lost.folders += bool(under)
            elif was is not None:
                if under and entry.mode & KIND == MODE_GITLINK:
                    folder.gitlinks.pop()
                    hidden = [one.name for one in entries_of(read, under)]
                    folder.folders.append((entry.name, Folder(b"", folder.depth + 1, gone=hidden)))
                _lose(read, was, lost, size, most)
            if entry.is_tree and was is not None and not under:
                _lose(read, was, lost, size, most)
        folder.gone += before
        for was in before.values():
            _lose(read, was, lost, size, most)
        if plan.entries + lost.entries > most:
            return None
    came, went = plan.counts, lost.counts
    whole = Materialised(
        held.files + came.files - went.files,
        held.links + came.links - went.links,
        held.folders + came.folders - went.folders,
        held.gitlinks + came.gitlinks - went.gitlinks,
        held.bytes + came.bytes - went.bytes,
    )
    if whole.entries > limits.entries:
        raise too_many(limits)
    if whole.bytes > limits.bytes:
        raise too_long(limits)
    return plan, whole


def _differing(
    read: Read, old: bytes | None, new: str, size: Size, limits: TreeLimits, folder: Folder
) -> tuple[list[TreeEntry], list[TreeEntry]]:
    """Entries of the wanted tree and of the one below, judged; perhaps without those that both have."""
    if old is None:
        return judged(read, new, size, limits, folder), []
    check_depth(folder, limits)
    check_size(new, size, limits)
    wanted = raw_tree(read, new)
    if (pairs := replaced(old, wanted, len(new) // 2)) is not None:
        # Their names were judged when the other tree was written.
        return [now for _, now in pairs], [was for was, _ in pairs]
    found = parse_tree(wanted, len(new) // 2)
    check_names(found, folder)
    return found, parse_tree(old, len(new) // 2)


def _lose(read: Read, entry: TreeEntry, lost: Plan, size: Size, most: int) -> None:
    """Count an entry that is hidden, with everything beneath it, until it is too much."""
    waiting = [entry]
    while waiting and lost.entries <= most:
        one = waiting.pop()
        kind = one.mode & KIND
        lost.files += kind == stat.S_IFREG
        lost.links += kind == MODE_SYMLINK
        lost.gitlinks += kind == MODE_GITLINK
        lost.folders += one.is_tree
        if kind == stat.S_IFREG:
            lost.total += size(one.id)
        elif one.is_tree:
            waiting += entries_of(read, one.id)
