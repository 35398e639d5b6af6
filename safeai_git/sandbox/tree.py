"""Gives a tree to the user that a sandbox runs as."""

from __future__ import annotations

import os
from pathlib import Path

from safeai_git.core.errors import SandboxUnavailable


def hand_over(tree: Path, uid: int, gid: int) -> None:
    """Change the owner of a folder and of everything in it, links themselves and not what they point at.

    Nothing may be running in it. Only root can do this.

    Raises:
        SandboxUnavailable: It cannot be done, so no check can write its tree.
    """
    try:
        for _, folders, files, descriptor in os.fwalk(tree, follow_symlinks=False):
            for name in (*folders, *files):
                os.chown(name, uid, gid, dir_fd=descriptor, follow_symlinks=False)
        os.chown(tree, uid, gid, follow_symlinks=False)
    except OSError as error:
        raise SandboxUnavailable(
            f"{tree} cannot be given to the user that root runs checks as: {error}",
            hint="run safeai-git as an ordinary user",
        ) from error
