"""The edits of a change of very many files, read by a process for each core; apart, since no usual commit needs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

from safeai_git.core.edit import Edit
from safeai_git.git import content
from safeai_git.git.changes import Change
from safeai_git.git.content import EditReader
from safeai_git.parallel import in_processes

LEAST_OF_A_PROCESS = 500


def edits(reader: EditReader, changes: Sequence[Change], tree: str) -> Iterator[Edit]:
    """What `EditReader.edit` makes of each change, in their order.

    Each process stops at `MOST_READ` bytes by itself; what lies beyond that of all together is left out here, so that
    the edits do not depend on how many processes there were.
    """
    left = content.MOST_READ
    with closing(in_processes(lambda one: reader.edit(one, tree), changes, LEAST_OF_A_PROCESS)) as each:
        for change, edit in zip(changes, each, strict=True):
            sizes = edit.old_size, edit.new_size
            if max(sizes) <= content.LARGEST_READ:
                left -= sum(sizes)
                yield edit if left >= 0 else reader.beyond(change, *sizes)
            else:
                yield edit
