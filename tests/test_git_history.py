"""``docs/history.md`` does what it says: its examples are run, and its table of hooks is held against git."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import AI_TRAILER, POLICY, Repo
from test_readme import matches, transcript
from tools_git import AGENT, Watched, copy_of, make_watched

DOCUMENT = Path(__file__).parent.parent / "docs" / "history.md"
HOOKS = ("pre-commit", "commit-msg", "post-commit")


def test_B47_B48_B72_B86_the_examples_do_what_they_say(repo: Repo) -> None:
    done = repo.safeai("init", "--no-hooks")
    assert done.code == 0, done.both
    repo.commit("start", {".safeai/policy.yaml": POLICY, "src/a.py": "a = 1\n"})
    steps = list(transcript(DOCUMENT.read_text(encoding="utf-8")))
    assert len(steps) > 20
    path = os.pathsep.join([str(Path(sys.executable).parent), repo.environment.get("PATH", os.defpath)])
    for step in steps:
        done_step = subprocess.run(
            ["sh", "-c", step.command],
            cwd=repo.path,
            env=repo.environment | {"PATH": path, "AI": AI_TRAILER},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        printed = done_step.stdout.decode(errors="replace")
        shown = f"history.md:{step.line}: $ {step.command}\n{printed}? {done_step.returncode}"
        assert done_step.returncode == step.code, shown
        assert matches(step.expected, printed), shown


# Which hooks see a commit


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, base_environment: dict[str, str]) -> Watched:
    repo = make_watched(tmp_path_factory.mktemp("template") / "repo", base_environment)
    repo.hooks = HOOKS
    repo.git("checkout", "-q", "-b", "topic")
    repo.commit("theirs", {"src/topic.py": "t = 1\n"}, ai=True)
    repo.git("checkout", "-q", "main")
    repo.commit("ours", {"src/ours.py": "o = 1\n"}, ai=True)
    (repo.path / ".git/theirs.patch").write_bytes(repo.git_bytes("format-patch", "--stdout", "-1", "topic"))
    return repo


def staged(repo: Watched) -> None:
    repo.write("src/a.py", "a = 2\n")
    repo.git("add", "-A")


def runs(*commands: str) -> Callable[[Watched], None]:
    def act(repo: Watched) -> None:
        for command in commands:
            done = repo.run(*command.split())
            assert done.code == 0, done.both

    return act


def by_hand(repo: Watched) -> None:
    repo.git("update-ref", "HEAD", repo.commit_tree(repo.git("write-tree"), "HEAD"))


COMMANDS: dict[str, tuple[Callable[[Watched], None], ...]] = {
    "`git commit`, `git commit --amend`": (staged, runs("commit -q --amend --no-edit")),
    "`git commit --no-verify`": (staged, runs("commit -q --no-verify -m x")),
    "`git merge`": (runs("merge -q --no-edit topic"),),
    "`git merge --no-commit`, then `git commit`": (
        runs("merge -q --no-commit topic", "commit -q --no-edit"),
    ),
    "`git merge --squash`, then `git commit`": (runs("merge -q --squash topic", "commit -q -m x"),),
    "`git merge` that goes forward": (runs("checkout -q topic~1", "merge -q topic"),),
    "`git cherry-pick`": (runs("cherry-pick topic"),),
    "`git revert`": (runs("revert --no-edit HEAD"),),
    "`git rebase`": (runs("checkout -q topic", "rebase -q main"),),
    "`git rebase --apply`": (runs("checkout -q topic", "rebase -q --apply main"),),
    "`git am`": (runs("am -q .git/theirs.patch"),),
    "`git commit-tree`, `git update-ref`": (staged, by_hand),
}


def table() -> dict[str, tuple[str, ...]]:
    rows = re.findall(
        r"^\| (`git [^|]*?) \| ([^|]*?) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE
    )
    return {what: () if hooks == "none" else tuple(hooks.split(", ")) for what, hooks in rows}


def test_the_table_of_hooks_names_every_command() -> None:
    assert table().keys() == COMMANDS.keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_B10_the_hooks_that_run_judge_the_tree_that_is_committed(
    template: Watched, tmp_path: Path, environment: dict[str, str], command: str
) -> None:
    """And what no hook sees is judged by the hook of the push."""
    repo = copy_of(template, tmp_path / "repo", environment)
    repo.git("update-ref", "refs/remotes/origin/main", "HEAD~1")
    for step in COMMANDS[command]:
        step(repo)
    seen = repo.seen()
    tree = repo.git("rev-parse", "HEAD^{tree}")
    assert {name for name, _ in seen} >= set(table()[command])
    assert {judged for _, judged in seen} <= {tree}
    if table()[command]:
        return
    repo.git("config", "safeai.pushNotes", "false")
    repo.hooks = ("pre-push",)
    repo.watch()
    head = repo.git("rev-parse", "HEAD")
    done = subprocess.run(
        [repo.path / ".git/hooks/pre-push", "origin", "nowhere"],
        cwd=repo.path,
        env=repo.environment | AGENT,
        input=f"refs/heads/x {head} refs/heads/x {'0' * 40}\n".encode(),
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert ("pre-push", tree) in repo.seen()
