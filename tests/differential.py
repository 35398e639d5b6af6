"""Our reading of changes held against git's own, commit by commit, on any repository.

    python tests/differential.py REPOSITORY [--commits 500] [--rev HEAD]

Compares paths, modes and object names with ``git diff-tree --raw``, sizes with the blobs, and line counts with
``git diff-tree --numstat`` where no attribute of the tree could have coloured them. Writes nothing. Exits 1 on any
difference.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from safeai_git.core.edit import MODE_GITLINK, MODE_SYMLINK, Edit
from safeai_git.core.errors import SafeAIError
from safeai_git.git.changes import EMPTY_TREE, TreeComparer
from safeai_git.git.content import EditReader
from safeai_git.git.repository import discover
from safeai_git.git.store import read_commit

Row = tuple[bytes, int, str, int, str]


@dataclass
class Outcome:
    """What was compared, and every difference as a sentence."""

    commits: int = 0
    edits: int = 0
    counted: int = 0
    unreadable: int = 0
    malformed: int = 0
    differences: list[str] = field(default_factory=list)


def git(repository: Path, *arguments: str) -> bytes:
    """Git's own answer; attributes of the repository's machine are kept out of it."""
    quiet = (
        "-c",
        "core.attributesFile=/dev/null",
        "-c",
        "diff.algorithm=myers",
        "-c",
        "core.quotePath=false",
    )
    return subprocess.run(
        ["git", "-C", str(repository), *quiet, *arguments], capture_output=True, check=True
    ).stdout


def raw_rows(repository: Path, old: str, new: str) -> set[Row]:
    """``git diff-tree -r -z --raw`` between two trees, taken apart as bytes."""
    flags = ("-r", "-z", "--raw", "--no-renames", "--no-abbrev", "--ignore-submodules=none")
    fields = git(repository, "diff-tree", *flags, old, new).split(b"\0")
    rows: set[Row] = set()
    for head, path in zip(fields[0:-1:2], fields[1::2], strict=True):
        old_mode, new_mode, old_id, new_id, _ = head[1:].decode().split(" ")
        blank = "0" * len(old_id)
        rows.add(
            (
                path,
                int(old_mode, 8),
                "" if old_id == blank else old_id,
                int(new_mode, 8),
                "" if new_id == blank else new_id,
            )
        )
    return rows


def line_counts(repository: Path, old: str, new: str) -> dict[bytes, tuple[bytes, bytes]]:
    """``git diff-tree --numstat`` between two trees: lines added and removed by path; ``-`` where git sees binary."""
    rows = git(repository, "diff-tree", "-r", "-z", "--numstat", "--no-renames", old, new).split(b"\0")
    found = (row.split(b"\t", 2) for row in rows if row)
    return {path: (added, removed) for added, removed, path in found}


def compare(repository: Path, commits: list[str]) -> Outcome:
    """Hold every commit against git (a merge against its first parent, a root against the empty tree)."""
    opened = discover(repository, {})
    comparer = TreeComparer(opened.store)
    reader = EditReader(comparer, opened.store, check=lambda: None)
    empty = git(repository, "hash-object", "-t", "tree", "/dev/null").decode().strip()
    outcome = Outcome()
    try:
        for name in commits:
            commit = read_commit(opened.store, name)
            old = read_commit(opened.store, commit.parents[0]).tree if commit.parents else EMPTY_TREE
            found = comparer.compare(old, commit.tree)
            outcome.commits += 1
            outcome.malformed += len(found.malformations)
            ours = {
                (
                    one.path,
                    one.old.mode if one.old else 0,
                    one.old.id if one.old else "",
                    one.new.mode if one.new else 0,
                    one.new.id if one.new else "",
                )
                for one in found.changes
            }
            theirs = raw_rows(repository, old or empty, commit.tree)
            outcome.differences += [f"{name}: only one side has {row}" for row in sorted(ours ^ theirs)]
            counts = line_counts(repository, old or empty, commit.tree)
            for change in found.changes:
                try:
                    edit = reader.edit(change, commit.tree)
                except SafeAIError as error:
                    outcome.unreadable += 1
                    print(f"{name}: {error.message}", file=sys.stderr)
                    continue
                outcome.edits += 1
                outcome.differences += [
                    f"{name} {edit.path!r}: {what}" for what in _objections(edit, counts, outcome)
                ]
    finally:
        opened.close()
    return outcome


def _objections(edit: Edit, counts: dict[bytes, tuple[bytes, bytes]], outcome: Outcome) -> list[str]:
    objections: list[str] = []
    modes = {edit.old_mode, edit.new_mode}
    if edit.binary or edit.unread or modes & {MODE_SYMLINK, MODE_GITLINK}:
        return objections
    if edit.bytes_added - edit.bytes_removed != edit.new_size - edit.old_size:
        objections.append(
            f"+{edit.bytes_added} -{edit.bytes_removed} bytes, but {edit.old_size} became {edit.new_size}"
        )
    added, removed = counts.get(edit.path, (b"0", b"0"))
    if edit.counted_whole or added == b"-":
        return objections  # too long for us, or an attribute says binary to git
    outcome.counted += 1
    if (edit.lines_added, edit.lines_removed) != (int(added), int(removed)):
        objections.append(
            f"+{edit.lines_added} -{edit.lines_removed} lines, git says +{int(added)} -{int(removed)}"
        )
    return objections


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("repository", type=Path)
    parser.add_argument("--commits", type=int, default=500)
    parser.add_argument("--rev", default="HEAD")
    asked = parser.parse_args()
    listed = git(asked.repository, "rev-list", "-n", str(asked.commits), asked.rev).decode().split()
    began = time.monotonic()
    outcome = compare(asked.repository, listed)
    for difference in outcome.differences[:20]:
        print(difference)
    print(
        f"{asked.repository.name}: {outcome.commits} commits, {outcome.edits} edits, {outcome.counted} counted line by "
        f"line, {outcome.unreadable} unreadable, {outcome.malformed} malformed, "
        f"{len(outcome.differences)} differences, {time.monotonic() - began:.1f} s"
    )
    return 1 if outcome.differences else 0


if __name__ == "__main__":
    sys.exit(main())
