"""Keys and the doctor: what ``keys`` makes and shows, what ``safeai`` makes, and how a clone is examined."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Repo
from tools_cli import make, needs_ssh_keygen, run, start

from safeai_git.client.spool import Spool
from safeai_git.core.envelope import Envelope, Signature

SAFEAI_ADMIN = [sys.executable, "-c", "from safeai_git.admin import main; main()"]
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, base_environment: dict[str, str]) -> Repo:
    """A repository with a policy and a key, which no test changes."""
    folder = tmp_path_factory.mktemp("shared")
    repo = start(make(folder / "repo", base_environment | {"XDG_CONFIG_HOME": str(folder / "config")}))
    repo.git("tag", "first")
    return repo


@pytest.fixture
def copy(shared: Repo, tmp_path: Path) -> Repo:
    """A copy that a test may break."""
    shutil.copytree(shared.path, tmp_path / "repo")
    shutil.copytree(shared.path.parent / "config", tmp_path / "config")
    return Repo(tmp_path / "repo", shared.environment | {"XDG_CONFIG_HOME": str(tmp_path / "config")})


# keys


def test_a_key_is_made_listed_and_exported(repo: Repo, tmp_path: Path) -> None:
    empty = repo.safeai("keys", "list")
    assert (empty.code, empty.out) == (
        0,
        f"no keys in {tmp_path}/config/safeai-git/keys; 'safeai-git keys generate' makes one\n",
    )
    made = repo.safeai("keys", "generate", "--key-id", "ci-2026")
    secret = tmp_path / "config/safeai-git/keys/ed25519.ci-2026.sk"
    assert made.code == 0, made.both
    assert f"private key: {secret}\n" in made.out
    assert 'namespaces="safeai-verdict" ssh-ed25519 ' in made.out
    assert secret.stat().st_mode & 0o777 == 0o600
    listed = json.loads(repo.safeai("keys", "list", "--format", "json").out)["keys"]
    assert [(one["name"], one["file"]) for one in listed] == [("ci-2026", str(secret.with_suffix(".pub")))]
    assert f"key id: {listed[0]['key_id']}\n" in made.out
    exported = repo.safeai("keys", "export", "--key-id", "ci-2026")
    assert exported.code == 0
    assert exported.out.startswith("ssh-ed25519 ")
    assert " ".join(exported.out.split()[:2]) in made.out
    data = json.loads(repo.safeai("keys", "export", "--key-id", "ci-2026", "--format", "json").out)
    assert data == {"name": "ci-2026", "public": exported.out.strip()}


@needs_ssh_keygen
def test_ssh_keygen_agrees_about_the_key(repo: Repo, tmp_path: Path) -> None:
    made = repo.safeai("keys", "generate", "--folder", str(tmp_path / "k"), "--format", "json")
    data = json.loads(made.out)
    shown = subprocess.run(["ssh-keygen", "-l", "-f", data["public"]], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.split()[1] == data["key_id"]


def test_a_key_that_is_there_is_never_overwritten(repo: Repo, tmp_path: Path) -> None:
    folder = ["--folder", str(tmp_path / "k")]
    assert repo.safeai("keys", "generate", *folder).code == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "k").iterdir()}
    again = repo.safeai("keys", "generate", *folder)
    assert again.code == 3
    assert "is there already and was left alone" in again.err
    assert "choose another --key-id" in again.err
    assert {path.name: path.read_bytes() for path in (tmp_path / "k").iterdir()} == before


def test_a_public_key_that_is_none_is_named(repo: Repo, tmp_path: Path) -> None:
    (tmp_path / "ed25519.bad.pub").write_text("hello\n")
    done = repo.safeai("keys", "list", "--folder", str(tmp_path))
    assert done.code == 3
    assert "ed25519.bad.pub" in done.err
    assert "a fault of the program" not in done.err


def test_keys_work_outside_a_repository(tmp_path: Path, environment: dict[str, str]) -> None:
    for command in (["keys", "generate"], ["keys", "list"], ["keys", "export"]):
        assert run(command, tmp_path, environment).code == 0, command


# safeai


def test_the_governor_gets_its_key_in_its_data_folder(tmp_path: Path, environment: dict[str, str]) -> None:
    data = tmp_path / "data"
    made = run(
        ["keys", "generate", "--key-id", "default"],
        ROOT,
        environment | {"SAFEAI_DATA_DIR": str(data)},
        program=SAFEAI_ADMIN,
    )
    assert made.code == 0, made.both
    assert f"private key: {data}/keys/ed25519.default.sk\n" in made.out
    assert f"public key: {data}/keys/ed25519.default.pub\n" in made.out
    assert (data / "keys" / "ed25519.default.sk").stat().st_mode & 0o777 == 0o600
    again = run(["keys", "generate", "--data-dir", str(data)], ROOT, environment, program=SAFEAI_ADMIN)
    assert again.code == 3
    assert "safeai: " in again.err
    assert "was left alone" in again.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["keys", "generate"], "Missing option '--data-dir'"),
        (["keys", "generate", "--data-dir", "x", "--key-id", "../a"], "a key cannot be called '../a'"),
        (["frobnicate"], "No such command 'frobnicate'"),
        ([], "Usage: safeai"),
    ],
)
def test_wrong_use_of_safeai(environment: dict[str, str], arguments: list[str], message: str) -> None:
    done = run(arguments, ROOT, environment, program=SAFEAI_ADMIN)
    assert done.code == 2
    assert message in done.both


def test_safeai_loses_no_output_unnoticed(environment: dict[str, str], tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*SAFEAI_ADMIN, "keys", "generate", "--data-dir", str(tmp_path)],
            cwd=ROOT,
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert done.returncode == 3
    assert b"No space left on device" in done.stderr


# doctor


def examined(repo: Repo, **env: str) -> tuple[int, dict[str, list[tuple[str, str]]]]:
    done = repo.safeai("doctor", "--format", "json", env=env)
    found: dict[str, list[tuple[str, str]]] = {}
    for one in json.loads(done.out)["examined"]:
        found.setdefault(one["what"], []).append((one["state"], one["detail"]))
    return done.code, found


def test_a_clone_in_order(copy: Repo) -> None:
    assert copy.safeai("hook", "install").code == 0
    code, found = examined(copy)
    assert code == 0
    states = {what: {state for state, _ in rows} for what, rows in found.items()}
    for what in (
        "safeai-git",
        "git",
        "repository",
        "policy",
        "key",
        "verdicts",
        "clock",
        "hook pre-commit",
        "hook pre-push",
    ):
        assert states[what] == {"ok"}, (what, found[what])
    assert any(what.startswith("sandbox") for what in found)
    text = copy.safeai("doctor")
    assert text.code == 0
    assert len(text.out.splitlines()) == sum(len(rows) for rows in found.values())


def test_what_works_with_less_is_a_warning(copy: Repo, tmp_path: Path) -> None:
    code, found = examined(copy, XDG_CONFIG_HOME=str(tmp_path / "nothing"))
    assert code == 0
    state, detail = found["hook pre-commit"][0]
    assert state == "warn"
    assert "'safeai-git hook install'" in detail
    assert found["key"] == [("warn", "none: changes are judged, not signed ('safeai-git keys generate')")]
    assert found["signers"][0][0] == "warn"
    assert "nobody can approve" in found["signers"][0][1]
    other = copy.safeai("keys", "generate", "--key-id", "other", "--folder", str(tmp_path / "k"))
    assert other.code == 0
    _, found = examined(copy, SAFEAI_KEY=str(tmp_path / "k" / "ed25519.other.sk"))
    assert found["key"][0][0] == "warn"
    assert "its verdicts do not count here" in found["key"][0][1]


def test_signers_that_count_for_more_than_they_should(copy: Repo) -> None:
    key = copy.safeai("keys", "export").out.strip()
    copy.commit(
        "signers", {".safeai/allowed_signers": f"maria@example.com {key}\nbob ssh-rsa AAAAB3NzaC1yc2E=\n"}
    )
    code, found = examined(copy)
    assert code == 0
    assert any("has no namespaces=" in detail for _, detail in found["signers"])
    assert any(":2" in detail and "ssh-rsa" in detail for _, detail in found["signers"])
    copy.commit("broken", {".safeai/allowed_signers": f"maria@example.com {key}\nbroken line here\n"})
    code, found = examined(copy)
    assert code == 1
    assert found["policy"][0][0] == "bad"
    assert ":2" in found["policy"][0][1]


def test_no_policy_is_a_warning_and_a_bad_one_is_bad(copy: Repo) -> None:
    copy.commit("bad", {".safeai/policy.yaml": "deny_path: [a]\n"})
    code, found = examined(copy)
    assert code == 1
    assert found["policy"][0][0] == "bad"
    assert "unknown key 'deny_path' (did you mean 'deny_paths'?)" in found["policy"][0][1]
    assert found["git"][0][0] == "ok"  # one bad thing does not hide the others
    copy.git("rm", "-q", "-r", ".safeai")
    copy.commit("none")
    code, found = examined(copy)
    assert (code, found["policy"][0][0]) == (0, "warn")
    assert "the built-in default judges" in found["policy"][0][1]


def test_a_key_that_cannot_be_used_is_bad(copy: Repo, tmp_path: Path) -> None:
    key = tmp_path / "config/safeai-git/keys/ed25519.default.sk"
    key.chmod(0o644)
    code, found = examined(copy)
    assert code == 1
    assert found["key"][0][0] == "bad"
    assert f"chmod 600 {key}" in found["key"][0][1]


def test_a_clock_that_is_behind_is_bad(copy: Repo) -> None:
    copy.commit("later", {"src/a.py": "a = 2\n"}, env={"GIT_COMMITTER_DATE": "2099-01-01T00:00:00+0000"})
    code, found = examined(copy)
    assert code == 1
    state, detail = found["clock"][0]
    assert state == "bad"
    assert detail.endswith("minutes behind the newest commit")


def test_what_waits_for_the_governor_is_counted(copy: Repo) -> None:
    spool = Spool(copy.path / ".git" / "safeai" / "spool")
    for number in (1, 2):
        spool.add(
            Envelope(
                "application/vnd.in-toto+json", b"%d" % number, (Signature("SHA256:" + "A" * 43, b"x" * 64),)
            )
        )
    _, found = examined(copy)
    assert found["spool"] == [
        ("warn", "2 verdicts not yet confirmed by the Governor: 'safeai-git push' delivers them")
    ]


def test_linked_working_trees_are_examined_too(copy: Repo, tmp_path: Path) -> None:
    copy.git("worktree", "add", "-q", str(tmp_path / "linked"), "-b", "other")
    copy.git("config", "extensions.worktreeConfig", "true")
    assert copy.safeai("hook", "install").code == 0
    linked = Repo(tmp_path / "linked", copy.environment)
    linked.git("config", "--worktree", "core.hooksPath", "/nowhere")
    _, found = examined(copy)
    assert found[f"hook pre-commit in {copy.path}"][0][0] == "ok"
    assert found[f"hook pre-commit in {linked.path}"] == [
        ("warn", "/nowhere/pre-commit is missing: 'safeai-git hook install'")
    ]
    shutil.rmtree(linked.path)
    code, found = examined(copy)
    assert code == 0
    assert found[f"hooks in {linked.path}"][0][0] == "warn"


def test_outside_a_repository_everything_else_is_still_examined(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    done = run(["doctor"], tmp_path, environment)
    assert done.code == 1
    assert f"bad  repository: {tmp_path} is not inside a git repository (change into one" in done.out
    assert "ok   git: " in done.out


def test_before_the_first_commit_the_doctor_has_an_answer(repo: Repo) -> None:
    code, found = examined(repo)
    assert code == 0
    assert found["policy"][0][0] == "warn"
    assert found["clock"][0][0] == "ok"


def test_a_hook_that_is_not_executable(copy: Repo) -> None:
    assert copy.safeai("hook", "install").code == 0
    hook = copy.path / ".git" / "hooks" / "pre-commit"
    hook.chmod(0o644)
    _, found = examined(copy)
    assert found["hook pre-commit"] == [
        ("warn", f"{hook} is not executable, so git passes over it: chmod +x")
    ]
    hook.write_text("#!/bin/sh\nexit 0\n")
    hook.chmod(0o755)
    _, found = examined(copy)
    assert found["hook pre-commit"] == [("warn", f"{hook} is somebody else's and does not call safeai-git")]
