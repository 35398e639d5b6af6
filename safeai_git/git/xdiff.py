"""Two texts compared by xdiff, as git does it: libgit2's, without heuristics of any configuration."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

_FORCE_TEXT = 1 << 20
"""``GIT_DIFF_FORCE_TEXT`` (libgit2, ``include/git2/diff.h``)."""


def _library() -> ModuleType:
    """pygit2's extension module; without its package where that is not loaded yet.

    The package takes 60 ms to load where the extension takes 15, and an agent's hook may need nothing else of it.
    Not entered in ``sys.modules``: whoever imports the package later gets it whole.
    """
    package = None if "pygit2" in sys.modules else importlib.util.find_spec("pygit2")
    folders = package.submodule_search_locations if package else None
    spec = PathFinder.find_spec("_pygit2", folders) if folders else None
    if spec is None or spec.loader is None:
        package_itself: ModuleType = importlib.import_module("safeai_git.git.native").pygit2
        return package_itself
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_PATCH: Any = _library().Patch


def counts(old: bytes, new: bytes) -> tuple[int, int, int, int]:
    """Bytes added, bytes removed, lines added, lines removed."""
    patch = _PATCH.create_from(old, new, flag=_FORCE_TEXT, context_lines=0, interhunk_lines=0)
    counted = {"+": [0, 0], "-": [0, 0]}
    for hunk in patch.hunks:
        for line in hunk.lines:
            if line.origin in counted:
                counted[line.origin][0] += len(line.raw_content)
                counted[line.origin][1] += 1
    (bytes_added, lines_added), (bytes_removed, lines_removed) = counted["+"], counted["-"]
    return bytes_added, bytes_removed, lines_added, lines_removed
