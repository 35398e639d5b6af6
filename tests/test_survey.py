"""A large tree is surveyed by several processes: what they find together, and how it is told when one of them fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("processes are copied on Linux alone", allow_module_level=True)

FOLDERS = 700
SURVEY = """\
import os, sys
from pathlib import Path
from safeai_git.core.errors import CouldNotDecide
from safeai_git.git import tree_plan
from safeai_git.git.libgit2 import Libgit2Store
from safeai_git.git.store import CatFileStore
from safeai_git.git.tree_plan import TreeLimits, survey
folder, tree = sys.argv[1:]
store = CatFileStore(Path(folder), 32, {}) if len(tree) == 64 else Libgit2Store(Path(folder, "objects"))
asked = 0
def size(name):
    global asked
    asked += 1
    return store.header(name)[1]
def refused(**limits):
    try:
        survey(store.read, tree, size, TreeLimits(**limits), store.serves_many)
    except CouldNotDecide as error:
        return error.message
several = survey(store.read, tree, size, TreeLimits(), store.serves_many)
asked_here, asked = asked, 0
print(several.counts.files, several.counts.folders, several.counts.links, several.counts.bytes)
print(refused(entries=several.entries - 1), "|", refused(bytes=several.total - 1), "|", refused(blob_bytes=99))
asked = 0
tree_plan.APART = 10**9
alone = survey(store.read, tree, size, TreeLimits(), store.serves_many)
print(alone == several, asked_here / asked)
"""


@pytest.fixture(params=["sha1", "sha256"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A bare repository, and the name of a tree of many folders with a file each, in one of them a large one."""

    def git(*arguments: str, stdin: bytes = b"") -> str:
        environment = {"PATH": os.defpath, "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent"}
        done = subprocess.run(
            ["git", *arguments], cwd=tmp_path, env=environment, input=stdin, capture_output=True, check=True
        )
        return done.stdout.decode().strip()

    git("init", "-q", "--bare", f"--object-format={request.param}", ".")
    lines = [b"commit refs/heads/main", b"committer A <a@b> 1 +0000", b"data 1", b"m"]
    for number in range(FOLDERS):
        content = b"x" * (100 if number == 77 else 1 + number % 9)
        lines += [b"M 644 inline all/%d/below/file" % number, b"data %d" % len(content), content]
    lines += [b"M 120000 inline all/5/link", b"data 1", b"x"]
    git("fast-import", "--quiet", stdin=b"\n".join(lines) + b"\n")
    return tmp_path, git("rev-parse", "main^{tree}")


def test_several_processes_find_what_one_would(tree: tuple[Path, str]) -> None:
    folder, name = tree
    done = subprocess.run(
        [sys.executable, "-c", SURVEY, str(folder), name],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counts, refusals, (same, share) = (
        done.stdout.splitlines()[0],
        done.stdout.splitlines()[1].split(" | "),
        done.stdout.splitlines()[2].split(),
    )
    size = sum(100 if number == 77 else 1 + number % 9 for number in range(FOLDERS))
    assert counts == f"{FOLDERS} {2 * FOLDERS + 1} 1 {size}"
    assert refusals[0] == f"the tree has more than {3 * FOLDERS + 1:,} entries"
    assert refusals[1] == f"the files of the tree are larger than {size - 1:,} bytes"
    assert refusals[2] == "all/77/below/file has 100 bytes, too many to write"
    assert same == "True"
    if len(os.sched_getaffinity(0)) > 1:
        assert float(share) < 0.9 or len(name) == 64  # one git is asked by one process
