"""The workbench: repositories out of raw objects, the same bytes on every run.

Trees and commits are written with ``git hash-object --literally``, so that whatever git itself would refuse to write
can be proposed. Dates, names and contents are fixed. Nothing of the machine's git configuration is consulted.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

FILE, EXECUTABLE, LINK, GITLINK, FOLDER = b"100644", b"100755", b"120000", b"160000", b"40000"
AI = b"Co-Authored-By: Claude Code <noreply@anthropic.com>"
ADA = b"Ada Author <ada@example.com> 1767323045 +0000"
POLICY = b"""\
safe_mode: true
deadline_seconds: 60
autonomy_tier: beta
repository: corpus/attacks
deny_paths: [config/keys/, infra/]
max_edit_size_bytes: 4096
max_total_size_bytes: 16384
"""
START: Mapping[bytes, bytes] = {
    b".github/workflows/ci.yml": b"on: push\njobs: {}\n",
    b"README.md": b"# A shop\n",
    b"config/keys/prod.pem": b"not a key\n",
    b"docs/guide.md": b"Read me first.\n",
    b"infra/main.tf": b"# production\n",
    b"src/a.py": b"a = 1\nb = 2\nc = 3\nd = 4\ne = 5\nf = 6\ng = 7\n",
    b"src/run.sh": b"#!/bin/sh\n",
}
"""The base commit, besides its policy."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a tree: any mode, and a blob's content or any object's name in hex."""

    mode: bytes = FILE
    content: bytes = b""
    name: str = ""


def link(target: bytes) -> Entry:
    """A symlink."""
    return Entry(LINK, target)


def gitlink(name: str = "1" * 40) -> Entry:
    """A submodule at a commit."""
    return Entry(GITLINK, name=name)


def environment(home: Path) -> dict[str, str]:
    """All that a program gets to see of this machine."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.fspath(home),
        "XDG_CONFIG_HOME": os.fspath(home / ".config"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Ada Author",
        "GIT_AUTHOR_EMAIL": "ada@example.com",
        "GIT_AUTHOR_DATE": "1767323045 +0000",
        "GIT_COMMITTER_NAME": "Ada Author",
        "GIT_COMMITTER_EMAIL": "ada@example.com",
        "GIT_COMMITTER_DATE": "1767323045 +0000",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
    }


class GitRefused(Exception):
    """Git ended with an error; the message is its own."""


@dataclass
class Bench:
    """A new repository in ``place/repo``, with the base commit on ``main``.

    Args:
        place: A folder of this attack's own.
        policy: The policy of the base commit; empty for none.
    """

    place: Path
    policy: bytes = POLICY
    path: Path = field(init=False)
    environ: dict[str, str] = field(init=False)
    base: str = field(init=False)
    _written: dict[tuple[str, bytes], str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.path = self.place / "repo"
        self.path.mkdir(parents=True)
        (self.place / "home").mkdir(exist_ok=True)
        self.environ = environment(self.place / "home")
        self.git("init", "-q", "-b", "main")
        files: dict[bytes, bytes | Entry | None] = dict(START)
        if self.policy:
            files[b".safeai/policy.yaml"] = self.policy
        self.base = self.commit(self.tree(files), message=b"Start", ai=False)
        self.git("update-ref", "refs/heads/main", self.base)

    def git(
        self,
        *arguments: str | bytes,
        stdin: bytes = b"",
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Run git; what it printed, stripped.

        Raises:
            GitRefused: It ended with an error.
        """
        return os.fsdecode(self.git_bytes(*arguments, stdin=stdin, cwd=cwd, env=env)).strip()

    def git_bytes(
        self,
        *arguments: str | bytes,
        stdin: bytes = b"",
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> bytes:
        """As `git`, raw."""
        done = subprocess.run(
            ["git", *arguments],
            cwd=cwd or self.path,
            env=self.environ | dict(env or {}),
            input=stdin,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise GitRefused(done.stderr.decode("utf-8", "replace"))
        return done.stdout

    def object(self, kind: str, data: bytes) -> str:
        """Write an object of any content, whatever git thinks of it."""
        known = self._written.get((kind, data))
        if known is None:
            known = self.git("hash-object", "-t", kind, "-w", "--literally", "--stdin", stdin=data)
            self._written[kind, data] = known
        return known

    def raw_tree(self, entries: Iterable[tuple[bytes, bytes, str]]) -> str:
        """A tree of ``(mode, name, object name)``, in just this order."""
        return self.object(
            "tree", b"".join(mode + b" " + name + b"\0" + bytes.fromhex(what) for mode, name, what in entries)
        )

    def entries(self, tree: str) -> list[tuple[bytes, bytes, str]]:
        """The entries of a sound tree, as `raw_tree` takes them."""
        rows = self.git_bytes("ls-tree", "-z", tree).split(b"\0")[:-1]
        split = (row.partition(b"\t") for row in rows)
        return [(said.split()[0].lstrip(b"0"), name, said.split()[2].decode()) for said, _, name in split]

    def tree(self, changes: Mapping[bytes, bytes | Entry | None], start: str = "") -> str:
        """A tree: `start` (a commit or tree, empty for nothing) with some paths written anew or, by None, taken out.

        Each path is split at its slashes and nothing else is done to it: ``..`` and ``.git`` are names like others.
        """
        rows = self.entries(start) if start else []
        there = {name: (mode, what) for mode, name, what in rows}
        folders: dict[bytes, dict[bytes, bytes | Entry | None]] = {}
        for path, new in changes.items():
            first, slash, rest = path.partition(b"/")
            if slash:
                folders.setdefault(first, {})[rest] = new
        for name, inner in folders.items():
            mode, old = there.get(name, (b"", ""))
            below = self.tree(inner, old if mode == FOLDER else "")
            there.pop(name, None)
            if below != EMPTY_TREE:
                there[name] = (FOLDER, below)
        for name, new in ((path, new) for path, new in changes.items() if b"/" not in path):
            there.pop(name, None)
            if new is not None:
                entry = new if isinstance(new, Entry) else Entry(content=new)
                there[name] = (entry.mode, entry.name or self.object("blob", entry.content))
        order = sorted(there, key=lambda name: name + b"/" if there[name][0] == FOLDER else name)
        return self.raw_tree((there[name][0], name, there[name][1]) for name in order)

    def commit(self, tree: str, *parents: str, message: bytes = b"A change", ai: bool = True) -> str:
        """A commit object with fixed names and dates."""
        text = message + (b"\n\n" + AI if ai else b"") + b"\n"
        head = [b"tree " + tree.encode(), *(b"parent " + parent.encode() for parent in parents)]
        return self.object("commit", b"\n".join([*head, b"author " + ADA, b"committer " + ADA, b"", text]))

    def change(self, changes: Mapping[bytes, bytes | Entry | None], *, on: str = "", ai: bool = True) -> str:
        """A commit that changes some paths of the base, or of another commit."""
        start = on or self.base
        return self.commit(self.tree(changes, start), start, ai=ai)

    def write(self, path: str, content: bytes, mode: int = 0o644) -> Path:
        """A plain file below the repository's folder."""
        full = self.path / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_bytes(content)
        full.chmod(mode)
        return full


EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
