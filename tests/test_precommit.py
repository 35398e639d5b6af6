"""The hooks under the real pre-commit program, which clones this repository, builds it and runs it.

One environment is built for all tests here (and a second one by ``try-repo``, which keeps none).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import AI_TRAILER, POLICY, Repo, Result

SOURCE = Path(__file__).parent.parent
PRE_COMMIT = Path(sys.executable).with_name("pre-commit")
TYPES = [word for name in ("pre-commit", "commit-msg", "post-commit", "pre-push") for word in ("-t", name)]
IDS = (
    "safeai-git-pre-commit",
    "safeai-git-commit-msg",
    "safeai-git-post-commit",
    "safeai-git-pre-push",
    "safeai-git-verify",
)
UNREACHABLE = (
    "Failed to establish a new connection",
    "Temporary failure in name resolution",
    "Name or service not known",
    "Network is unreachable",
    "Max retries exceeded",
    "Read timed out",
)


def snapshot(place: Path, environment: dict[str, str]) -> Repo:
    """This project as it stands, committed in a repository of its own."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=SOURCE,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("this is not a clone of the project")
    repo = Repo(place, environment)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (SOURCE / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(SOURCE / name, place / name)
    repo.git("init", "-q")
    repo.commit("as it stands")
    return repo


@pytest.fixture(scope="module")
def surroundings(
    tmp_path_factory: pytest.TempPathFactory, base_environment: dict[str, str]
) -> dict[str, str]:
    """An environment with a cache of pre-commit's own, and pip as it is configured for this user."""
    place = tmp_path_factory.mktemp("surroundings")
    environment = base_environment | {
        "PRE_COMMIT_HOME": str(place / "cache"),
        "XDG_CONFIG_HOME": str(place / "config"),
    }
    own = Path.home() / ".config/pip/pip.conf"
    if own.exists():
        environment.setdefault("PIP_CONFIG_FILE", str(own))
    return environment


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, surroundings: dict[str, str]) -> Repo:
    return snapshot(tmp_path_factory.mktemp("source"), surroundings)


def run(repo: Repo, *line: str, env: Mapping[str, str] | None = None) -> Result:
    done = subprocess.run(
        line,
        cwd=repo.path,
        env=repo.environment | dict(env or {}),
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, source: Repo, surroundings: dict[str, str]) -> Repo:
    """A gated repository: policy, key, configuration of pre-commit with all ids, everything installed."""
    place = tmp_path_factory.mktemp("gated") / "repo"
    place.mkdir()
    repo = Repo(place, surroundings)
    repo.git("init", "-q")
    hooks = "".join(f"      - id: {one}\n" for one in IDS)
    rev = source.git("rev-parse", "HEAD")
    repo.write(
        ".pre-commit-config.yaml", f"repos:\n  - repo: {source.path}\n    rev: {rev}\n    hooks:\n{hooks}"
    )
    done = repo.safeai("init")
    assert done.code == 0, done.both
    assert "this repository uses pre-commit" in done.out
    repo.write(".safeai/policy.yaml", POLICY)
    repo.commit("start", {"src/a.py": "a = 1\n"})
    done = run(repo, str(PRE_COMMIT), "install", "--install-hooks", *TYPES)
    if done.code and any(sign in done.both for sign in UNREACHABLE):
        pytest.skip("the package registry cannot be reached, so pre-commit cannot build the hooks")
    assert done.code == 0, done.both
    return repo


@pytest.fixture
def gated(template: Repo, tmp_path: Path) -> Repo:
    shutil.copytree(template.path, tmp_path / "repo", symlinks=True)
    return Repo(tmp_path / "repo", template.environment)


def commit(repo: Repo, path: str, *, env: Mapping[str, str] | None = None, ai: bool = True) -> Result:
    repo.write(path, "x = 1\n")
    repo.git("add", "--", path)
    return run(repo, "git", "commit", "-m", f"Add {path}", *(["-m", AI_TRAILER] if ai else []), env=env)


def test_the_listing_names_what_is_tested() -> None:
    listed = (SOURCE / ".pre-commit-hooks.yaml").read_text()
    assert [line[len("- id: ") :] for line in listed.splitlines() if line.startswith("- id: ")] == list(IDS)


def test_an_agents_change_is_stopped_by_its_environment_and_by_its_trailer(gated: Repo) -> None:
    head = gated.git("rev-parse", "HEAD")
    done = commit(gated, "config/keys/prod.pem", env={"CLAUDECODE": "1"}, ai=False)
    assert (done.code, "[denied-path]" in done.both) == (1, True), done.both
    assert "id: safeai-git-pre-commit" in done.both
    done = commit(gated, "config/keys/prod.pem")
    assert (done.code, "[denied-path]" in done.both) == (1, True), done.both
    assert "id: safeai-git-commit-msg" in done.both
    assert gated.git("rev-parse", "HEAD") == head
    assert gated.git("diff", "--cached", "--name-only") == "config/keys/prod.pem"


def test_an_allowed_change_is_signed_and_verified(gated: Repo) -> None:
    done = commit(gated, "src/b.py")
    assert done.code == 0, done.both
    assert gated.git("notes", "--ref=safeai", "show", "HEAD")
    done = run(gated, str(PRE_COMMIT), "run", "--hook-stage", "manual", "safeai-git-verify")
    assert done.code == 0, done.both
    assert "a trusted verdict allows it" in done.both


def test_a_person_is_left_in_peace(gated: Repo) -> None:
    done = commit(gated, "docs/any.md", ai=False)
    assert done.code == 0, done.both


def test_a_review_is_let_go_and_verify_finds_it(gated: Repo) -> None:
    done = commit(gated, ".github/workflows/ci.yml")
    assert done.code == 0, done.both
    done = run(gated, str(PRE_COMMIT), "run", "--hook-stage", "manual", "safeai-git-verify")
    assert (done.code, "0 of 1 approvals are there" in done.both) == (1, True), done.both


def test_unstaged_changes_do_not_count(gated: Repo) -> None:
    gated.write("src/a.py", "a = 2\n" + "#" * 100_000)
    done = commit(gated, "src/b.py", env={"CLAUDECODE": "1"})
    assert done.code == 0, done.both
    assert gated.git("status", "--porcelain") == "M src/a.py"


def test_what_cannot_be_decided_stops_the_commit(gated: Repo) -> None:
    gated.commit("A broken policy", {".safeai/policy.yaml": "deny_path: [x]\n"})
    done = commit(gated, "src/b.py", ai=False)
    assert (done.code, "unknown key 'deny_path'" in done.both) == (1, True), done.both


def test_B10_a_push_is_judged_signed_and_takes_the_verdicts_along(gated: Repo, tmp_path: Path) -> None:
    remote = Repo(tmp_path / "remote.git", gated.environment)
    remote.path.mkdir()
    remote.git("init", "-q", "--bare")
    gated.git("remote", "add", "origin", f"file://{remote.path}")
    good = gated.commit("Round the hooks", {"src/b.py": "b = 2\n"}, ai=True)
    done = run(gated, "git", "push", "origin", "main")
    assert done.code == 0, done.both
    assert remote.git("rev-parse", "main") == good
    assert remote.git("notes", "--ref=safeai", "show", good)
    gated.commit("Round the hooks again", {"config/keys/prod.pem": "x"}, ai=True)
    done = run(gated, "git", "push", "origin", "main")
    assert (done.code, "the push is refused: 1 of 1 commits" in done.both) == (1, True), done.both
    done = run(gated, "git", "push", "origin", "main:refs/heads/other")
    assert done.code == 1, done.both
    assert remote.git("rev-parse", "main") == good
    for update in (f"{good}:refs/heads/gone", ":gone"):
        done = run(gated, "git", "push", "origin", update)
        assert done.code == 0, done.both


def test_B10_doctor_says_whose_hooks_these_are(gated: Repo) -> None:
    done = gated.safeai("doctor")
    assert "is pre-commit's: its configuration decides" in done.out


def test_try_repo(gated: Repo, source: Repo) -> None:
    gated.write("config/keys/prod.pem", "x")
    gated.git("add", "-A")
    line = [str(PRE_COMMIT), "try-repo", os.fspath(source.path), "safeai-git-pre-commit"]
    done = run(gated, *line, env={"CLAUDECODE": "1"})
    assert (done.code, "[denied-path]" in done.both) == (1, True), done.both
