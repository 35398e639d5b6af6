"""The server's hooks behind each way of pushing: a folder, ssh, smart HTTP; what is kept of a push, and told after it."""

from __future__ import annotations

import getpass
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Repo, Result
from tools_transport import BACKEND, REMOTE_USER, http_server, ssh_server, sshd

from safeai_git.commands.overrides import pusher
from safeai_git.core.errors import StorageError
from safeai_git.ledger import append

NOTES = "refs/notes/safeai"


def install(server: Repo, name: str, flags: str = "") -> None:
    """Put a hook where docs/pre-receive.md says."""
    hook = server.path / "hooks" / name
    run = f'exec {shlex.quote(sys.executable)} -m safeai_git hook run {name} {flags} "$@"'
    hook.write_text(
        f"#!/bin/sh\nPYTHONPATH={shlex.quote(os.pathsep.join(sys.path))}\nexport PYTHONPATH\n{run}\n"
    )
    hook.chmod(0o755)


@dataclass
class Way:
    """A clone, its server, and how one is reached from the other."""

    repo: Repo
    server: Repo
    url: str
    pusher: str
    variables: dict[str, str]

    def push(self, *arguments: str) -> Result:
        done = subprocess.run(
            ["git", "push", "--no-verify", self.url, *arguments],
            cwd=self.repo.path,
            env=self.repo.environment | self.variables,
            capture_output=True,
            timeout=120,
        )
        return Result(
            done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )

    def ref(self, name: str) -> str:
        return self.server.git("for-each-ref", "--format=%(objectname)", name)

    def kept(self, name: str) -> list[Any]:
        file = self.server.path / "safeai" / name
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def server(make_repo: Callable[..., Repo], governed: Repo) -> Repo:
    bare = make_repo("server.git", "--bare")
    governed.git("push", "-q", "--no-verify", str(bare.path), "main")
    bare.git("config", "http.receivepack", "true")
    install(bare, "pre-receive", "--deadline-seconds 60")
    install(bare, "post-receive")
    return bare


@pytest.fixture(params=["file", "ssh", "http"])
def way(request: pytest.FixtureRequest, governed: Repo, server: Repo, tmp_path: Path) -> Iterator[Way]:
    if request.param == "file":
        yield Way(governed, server, server.path.as_uri(), "peter", {"USER": "peter", "LOGNAME": "peter"})
    elif request.param == "ssh":
        if sshd() is None:
            pytest.skip("sshd is not installed (openssh-server), or this user has no name")
        folder = tmp_path / "ssh"
        folder.mkdir()
        with ssh_server(folder) as client:
            url = f"ssh://127.0.0.1{server.path}"
            yield Way(governed, server, url, getpass.getuser(), {"GIT_SSH_COMMAND": client})
    else:
        if not BACKEND.exists():
            pytest.skip("git's http-backend is not installed")
        with http_server(tmp_path, governed.environment) as url:
            yield Way(governed, server, f"{url}/{server.path.name}", REMOTE_USER, {})


def test_a_push_is_judged_whichever_way_it_comes(way: Way, maria: dict[str, str]) -> None:
    repo = way.repo
    start = way.ref("refs/heads/main")
    # Refused: two refs, all findings at once, a hostile name escaped, and nothing moves.
    repo.git("checkout", "-q", "-b", "topic")
    repo.commit("key", {"config/keys/\x1b]0;x\x07.pem": "k"}, ai=True)
    repo.git("checkout", "-q", "main")
    repo.commit("outside", {"docs/b.md": "b"}, ai=True)
    done = way.push("main", "topic")
    assert done.code != 0
    told = [line for line in done.err.splitlines() if line.startswith("remote: ")]
    assert any("[denied-path]" in line for line in told)
    assert any("docs/b.md [path-not-allowed]" in line for line in told)
    assert any("the push is refused: 2 of 2 refs" in line for line in told)
    assert not {"\x1b]", "\x07"} & {*done.err.split("0;x")}
    assert "\x07" not in done.err
    assert (way.ref("refs/heads/main"), way.ref("refs/heads/topic")) == (start, "")
    assert way.kept("overrides.jsonl") == []

    # Allowed with its verdict: not a word, before or after.
    repo.git("reset", "-q", "--hard", start)
    repo.commit("work", {"src/b.py": "b = 1\n"}, ai=True)
    assert repo.safeai("check", "--range", "HEAD~1..HEAD").code == 0
    done = way.push("main", NOTES)
    assert done.code == 0, done.both
    assert "safeai-git" not in done.err
    assert (way.kept("overrides.jsonl"), way.kept("unverified.jsonl")) == ([], [])

    # A review that an approval lifts: taken, and kept as an override with who pushed.
    head = repo.commit("ci", {".github/workflows/x.yml": "on: push\n"}, ai=True)
    assert repo.safeai("check", "--range", "HEAD~1..HEAD").code == 1
    assert way.push("main", NOTES).code != 0
    assert repo.safeai("approve", "HEAD", env=maria).code == 0
    done = way.push("main", NOTES)
    assert done.code == 0, done.both
    (kept,) = way.kept("overrides.jsonl")
    assert kept["pusher"] == way.pusher
    assert (kept["ref"], kept["commit"]) == ("refs/heads/main", head)
    assert (kept["override"], kept["approved_by"]) == ("approved", ["maria@example.com"])
    assert kept["rules"] == ["protected-path"]


# Once, over the shortest way


@pytest.fixture
def folder(governed: Repo, server: Repo) -> Way:
    return Way(governed, server, server.path.as_uri(), "peter", {"USER": "peter", "LOGNAME": "peter"})


def test_a_rewrite_that_the_server_lets_through_is_kept(folder: Way) -> None:
    folder.repo.commit("one")
    assert folder.push("main").code == 0
    folder.repo.git("reset", "-q", "--hard", "HEAD~1")
    folder.repo.commit("another")
    assert folder.push("--force", "main").code != 0
    folder.server.git("config", "safeai.historyRewrite", "warn")
    done = folder.push("--force", "main")
    assert done.code == 0, done.both
    (kept,) = folder.kept("overrides.jsonl")
    assert (kept["override"], kept["rules"]) == ("configured", ["history-rewrite"])


def test_what_cannot_be_kept_is_not_taken(folder: Way, maria: dict[str, str]) -> None:
    folder.repo.commit("ci", {".github/workflows/x.yml": "on: push\n"}, ai=True)
    assert folder.repo.safeai("approve", "HEAD", env=maria).code == 0
    (folder.server.path / "safeai").mkdir(exist_ok=True)
    (folder.server.path / "safeai/overrides.jsonl").mkdir()
    before = folder.ref("refs/heads/main")
    done = folder.push("main", NOTES)
    assert done.code != 0
    assert "overrides.jsonl cannot be written" in done.err
    assert folder.ref("refs/heads/main") == before


def test_a_commit_that_came_without_a_verdict_is_told_and_kept(folder: Way) -> None:
    """pre-receive took it by the policy; nobody signed for it, so `verify` would miss it."""
    head = folder.repo.commit("work", {"src/b.py": "b = 1\n"}, ai=True)
    done = folder.push("main")
    assert done.code == 0  # git does not ask what post-receive says
    assert "refs/heads/main has 1 commit without a verdict" in done.err
    (kept,) = folder.kept("unverified.jsonl")
    assert (kept["commit"], kept["status"], kept["ref"]) == (head, "missing", "refs/heads/main")


def test_only_protected_refs_are_verified_after_a_push(folder: Way) -> None:
    folder.repo.git("checkout", "-q", "-b", "topic")
    folder.repo.commit("work", {"src/b.py": "b = 1\n"}, ai=True)
    assert folder.push("topic").code == 0
    assert folder.kept("unverified.jsonl") == []
    folder.server.git("config", "safeai.protectedRefs", "refs/heads/release/ refs/heads/top*")
    assert folder.push("topic:refs/heads/other", "topic:refs/heads/release/1").code == 0
    assert [one["ref"] for one in folder.kept("unverified.jsonl")] == ["refs/heads/release/1"]


def test_what_could_not_be_verified_is_kept_too(folder: Way) -> None:
    """Past pre-receive nothing is refused: a ref that was moved on the server may hold anything."""
    (folder.server.path / "hooks/pre-receive").unlink()
    folder.repo.commit("broken", {".safeai/policy.yaml": "nonsense: [\n"})
    folder.repo.commit("work", {"src/b.py": "b = 1\n"}, ai=True)
    done = folder.push("main")
    assert done.code == 0
    assert [one["status"] for one in folder.kept("unverified.jsonl")] == ["missing", "undecided"]
    assert "safeai-git:" in done.err


def test_the_update_hook_judges_one_ref_at_a_time(folder: Way) -> None:
    (folder.server.path / "hooks/pre-receive").unlink()
    install(folder.server, "update", "--deadline-seconds 60")
    repo = folder.repo
    repo.git("branch", "good")
    good = repo.git("rev-parse", "good")
    repo.commit("key", {"config/keys/k": "k"}, ai=True)
    done = folder.push("main", "good")
    assert done.code != 0
    assert "[denied-path]" in done.err
    assert folder.ref("refs/heads/good") == good
    assert folder.ref("refs/heads/main") == good
    assert repo.safeai("hook", "run", "update", "refs/heads/main").code == 2


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, ""),
        ({"USER": "git", "GL_USERNAME": "ada", "GL_ID": "user-7"}, "ada"),
        ({"USER": "git", "GL_ID": "user-7"}, "user-7"),
        ({"USER": "git", "GITEA_PUSHER_NAME": "bob"}, "bob"),
        ({"USER": "git", "GITHUB_USER_LOGIN": "eve"}, "eve"),
        ({"REMOTE_USER": "\x1b[2J\n"}, "\\x1b[2J\\n"),
        ({"USER": "x" * 9_000}, "x" * 200),
    ],
)
def test_who_pushes_is_what_the_server_says(environ: dict[str, str], name: str) -> None:
    assert pusher(environ) == name


def test_rows_are_whole_or_not_there(tmp_path: Path) -> None:
    file = tmp_path / "a" / "rows.jsonl"
    append(file, [])
    assert not file.exists()
    append(file, [{"a": "\n\u2028"}, {"b": 1}])
    append(file, [{"c": None}])
    assert [json.loads(line) for line in file.read_text().split("\n") if line] == [
        {"a": "\n\u2028"},
        {"b": 1},
        {"c": None},
    ]
    if os.path.exists("/dev/full"):
        with pytest.raises(StorageError, match="No space left"):
            append(Path("/dev/full"), [{"a": 1}])
