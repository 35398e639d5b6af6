"""Two texts compared by xdiff, as git does it: libgit2's, without heuristics of any configuration."""

from __future__ import annotations

from typing import Any

import pygit2
from pygit2.enums import DiffOption


def counts(old: bytes, new: bytes) -> tuple[int, int, int, int]:
    """Bytes added, bytes removed, lines added, lines removed."""
    patch: Any = pygit2.Patch.create_from(
        old, new, flag=DiffOption.FORCE_TEXT, context_lines=0, interhunk_lines=0
    )
    counted = {"+": [0, 0], "-": [0, 0]}
    for hunk in patch.hunks:
        for line in hunk.lines:
            if line.origin in counted:
                counted[line.origin][0] += len(line.raw_content)
                counted[line.origin][1] += 1
    (bytes_added, lines_added), (bytes_removed, lines_removed) = counted["+"], counted["-"]
    return bytes_added, bytes_removed, lines_added, lines_removed
