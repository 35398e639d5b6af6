"""Repositories whose pre-commit hook is ours and writes down which tree it judged."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from conftest import AI_TRAILER, POLICY, Repo, Result

from safeai_git.commands.session import Session

AGENT = {"CLAUDECODE": "1"}
DENIED = "config/keys/prod.pem"

WATCHED = """\
import sys
from pathlib import Path
from safeai_git import __main__
from safeai_git.git.facts import FactReader
from safeai_git.git.reader import ProposalReader
seen = Path({seen!r})
def watched(judge):
    def judged(self, *arguments):
        proposal = judge(self, *arguments)
        with seen.open("a") as file:
            file.write(f"{{sys.argv[3]}} {{proposal.tree}}\\n")
        return proposal
    return judged
FactReader.staged, ProposalReader.commit = watched(FactReader.staged), watched(ProposalReader.commit)
__main__.main()
"""
"""The hook as it is installed, with one thing more: the tree that it judges is written to a file."""


@dataclass
class Watched(Repo):
    """A repository with the real hooks, and a file that tells what they judged."""

    hooks: tuple[str, ...] = ("pre-commit",)

    @property
    def seen_file(self) -> Path:
        return self.path.parent / f"{self.path.name}.seen"

    def watch(self, folder: Path | None = None) -> None:
        """Install the hooks."""
        folder = folder or Path(self.git("rev-parse", "--path-format=absolute", "--git-path", "hooks"))
        folder.mkdir(parents=True, exist_ok=True)
        program = self.seen_file.with_suffix(".py")
        program.write_text(WATCHED.format(seen=str(self.seen_file)))
        for name in self.hooks:
            (folder / name).write_text(
                f'#!/bin/sh\nexec "{sys.executable}" -P "{program}" hook run {name} "$@"\n'
            )
            (folder / name).chmod(0o755)

    def at(self, path: Path, **environment: str) -> Watched:
        """The same hooks' report on another working tree."""
        other = Watched(path, self.environment | environment, self.hooks)
        other.watch()
        return other

    def run(self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Result:
        done = subprocess.run(
            ["git", *arguments],
            cwd=cwd or self.path,
            env=self.environment | AGENT | {"GIT_EDITOR": "true"} | dict(env or {}),
            capture_output=True,
            stdin=subprocess.DEVNULL,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace"))

    def judged(self, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
        """The tree that ``safeai-git check`` judges now."""
        session = Session(cwd or self.path, self.environment | dict(env or {}))
        try:
            return session.gate(agent="claude-code", replay=False).staged().verdict.proposal.tree
        finally:
            session.close()

    def seen(self) -> list[tuple[str, str]]:
        """Hooks and the trees that they judged since this was asked last."""
        if not self.seen_file.exists():
            return []
        lines = self.seen_file.read_text().splitlines()
        self.seen_file.unlink()
        return [(name, tree) for name, _, tree in (line.partition(" ") for line in lines)]

    def commits(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        plain: bool = True,
    ) -> str:
        """Commit, and assert that the tree that was judged is the one that was committed; returns it.

        Args:
            arguments: For ``git commit``.
            env: Variables for it and for the check before it.
            cwd: Where both run.
            plain: Whether the index says before the commit what it will be of.
        """
        self.seen()
        before = self.judged(env, cwd) if plain else ""
        old = self.run("rev-parse", "-q", "--verify", "HEAD", env=env, cwd=cwd).out
        done = self.run("commit", "-q", "-m", f"A change\n\n{AI_TRAILER}", *arguments, env=env, cwd=cwd)
        assert done.code == 0, done.both
        assert self.run("rev-parse", "HEAD", env=env, cwd=cwd).out != old
        tree = self.run("rev-parse", "HEAD^{tree}", env=env, cwd=cwd).out.strip()
        assert self.seen() == [("pre-commit", tree)]
        assert before in ("", tree)
        return tree

    def refuses(self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        """Stage what the policy denies, and assert that the hook sees it in the index as it is."""
        old = self.run("rev-parse", "-q", "--verify", "HEAD", env=env, cwd=cwd).out
        blob = self.run("hash-object", "-w", "-t", "blob", os.devnull, env=env, cwd=cwd).out.strip()
        added = self.run("update-index", "--add", "--cacheinfo", f"100644,{blob},{DENIED}", env=env, cwd=cwd)
        assert added.code == 0, added.both
        done = self.run("commit", "-q", "-m", "keys", *arguments, env=env, cwd=cwd)
        assert done.code == 1, done.both
        assert f"{DENIED} [denied-path]" in done.err, done.both
        assert self.run("rev-parse", "-q", "--verify", "HEAD", env=env, cwd=cwd).out == old


def make_watched(path: Path, environment: dict[str, str], *flags: str) -> Watched:
    """A repository with a policy and some files, and hooks that are watched."""
    path.mkdir(parents=True)
    repo = Watched(path, environment)
    repo.git("init", "-q", *flags)
    files = {f"src/n{number}.py": f"n = {number}\n" for number in range(5)}
    repo.commit(
        "start",
        {
            ".safeai/policy.yaml": POLICY,
            "src/a.py": "a = 1\n",
            "tests/t.py": "t = 1\n",
            "docs/deep/d.md": "d\n",
            **files,
        },
    )
    repo.watch()
    return repo


def copy_of(repo: Watched, path: Path, environment: dict[str, str]) -> Watched:
    """A copy with hooks of its own."""
    shutil.copytree(repo.path, path, symlinks=True)
    copy = Watched(path, environment, repo.hooks)
    copy.git("update-index", "-q", "--refresh")
    copy.watch()
    return copy
