"""Patches between two trees as git writes them, and the repository of nothing but objects in which it is asked to.

No working tree, no configuration and no attributes are there that could colour a patch or name a program.
"""

from __future__ import annotations

import os
import tempfile
from itertools import pairwise
from pathlib import Path

from safeai_git.git.plumbing import run
from safeai_git.git.repository import Repository
from safeai_git.git.working import MemoryStore


def make_scratch(repository: Repository, scratch: Path) -> None:
    """Make a bare repository in a folder that is there and empty; it borrows the objects of another one."""
    for folder in ("objects/info", "objects/pack", "refs"):
        (scratch / folder).mkdir(parents=True)
    (scratch / "HEAD").write_text("ref: refs/heads/none\n", encoding="ascii")
    extension = "[extensions]\n\tobjectFormat = sha256\n" if repository.object_format == "sha256" else ""
    version = 1 if extension else 0
    (scratch / "config").write_text(
        f"[core]\n\trepositoryformatversion = {version}\n\tbare = true\n{extension}", encoding="ascii"
    )
    borrowed = [repository.object_directory, *repository._borrowed()]  # noqa: SLF001
    (scratch / "objects/info/alternates").write_bytes(b"".join(os.fsencode(one) + b"\n" for one in borrowed))


def patches(repository: Repository, store: MemoryStore, trees: list[str]) -> list[bytes]:
    """The patches that lead from each tree to the next one: binary files whole, renames as deletion and addition.

    Args:
        repository: Whose objects are read.
        store: What holds the trees that the repository does not have.
        trees: Names of trees, in hex; `EMPTY_TREE` for one without entries.
    """
    with tempfile.TemporaryDirectory(prefix="safeai-split-") as folder:
        scratch = Path(folder)
        make_scratch(repository, scratch)
        names = [tree or store.write("tree", b"") for tree in trees]
        store.keep_in(scratch / "objects")
        here = {"GIT_DIR": os.fspath(scratch)}
        form = [
            "-p",
            "--binary",
            "--full-index",
            "--no-renames",
            "--no-ext-diff",
            "--no-textconv",
            "--no-color",
        ]
        return [
            run(["diff-tree", *form, old, new], cwd=scratch, environ={}, extra=here)[0]
            for old, new in pairwise(names)
        ]
