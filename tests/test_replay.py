"""Replay: the checks of the base's policy on the proposed tree, in the real sandbox, and what becomes of the evidence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import POLICY, Repo

from safeai_git.commands import replay as commands
from safeai_git.commands.session import Session
from safeai_git.core.context import CheckEvidence
from safeai_git.core.errors import SandboxUnavailable, WrongUse
from safeai_git.core.policy import Check
from safeai_git.core.values import replace
from safeai_git.evidence import command_digest, last_lines
from safeai_git.gate import Judgement
from safeai_git.replay import Replayer
from safeai_git.sandbox import bubblewrap, choose, landlock
from safeai_git.sandbox.levels import PROMISES
from safeai_git.sandbox.scratch import scratch_directory

CHECKS = """\
checks:
  - name: unit
    run: sh tests/run
    paths: [src/, tests/]
    timeout_seconds: 20
  - name: words
    run: echo words; exit 3
    paths: [docs/]
    expect_exit: [0, 3]
"""


def _why_not() -> str:
    if sys.platform != "linux":
        return "replay needs Linux"
    try:
        choose(state_dir=None)
    except SandboxUnavailable as error:
        return error.message
    return ""


WHY_NOT = _why_not()
needs_sandbox = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "there is a sandbox")


@pytest.fixture(scope="session")
def checked_template(tmp_path_factory: pytest.TempPathFactory, base_environment: dict[str, str]) -> Path:
    path = tmp_path_factory.mktemp("checked") / "repo"
    path.mkdir()
    repo = Repo(path, base_environment)
    repo.git("init", "-q")
    policy = POLICY.replace("tests/,", "tests/, docs/,") + CHECKS
    repo.commit("start", {".safeai/policy.yaml": policy, "src/a": "ok\n", "tests/run": "grep -q ok src/a\n"})
    if not WHY_NOT:
        choose(state_dir=path / ".git/safeai")  # its self-test once, not in every test
    return path


@pytest.fixture(scope="session")
def kept_trees() -> Iterator[str]:
    with scratch_directory() as place:
        yield str(place)


@pytest.fixture
def checked(checked_template: Path, tmp_path: Path, environment: dict[str, str], kept_trees: str) -> Repo:
    shutil.copytree(checked_template, tmp_path / "repo")
    return Repo(tmp_path / "repo", environment | {"SAFEAI_TREES": kept_trees})


def session_of(repo: Repo, output_format: str = "text") -> Session:
    return Session(repo.path, repo.environment, output_format)


def judge(repo: Repo, *, remember: bool = False, replay: bool = True) -> Judgement:
    """What is staged, by an agent."""
    return session_of(repo).gate(agent="claude-code", replay=replay, remember=remember).staged()


def results(judged: Judgement) -> dict[str, str]:
    return {name: one.result for name, one in judged.verdict.context.evidence.items()}


def stage(repo: Repo, files: dict[str, str]) -> None:
    for path, content in files.items():
        repo.write(path, content)
    repo.git("add", "-A")


@needs_sandbox
class TestInTheSandbox:
    def test_a_check_that_passes_lets_the_change_pass(self, checked: Repo) -> None:
        stage(checked, {"src/a": "still ok\n"})
        judged = judge(checked)
        assert (judged.decision, results(judged)) == ("allow", {"unit": "passed"})
        (evidence,) = judged.verdict.context.evidence.values()
        assert evidence.tree == judged.verdict.proposal.tree
        backend = choose(state_dir=None)
        assert evidence.isolation == backend.isolation.in_words
        assert evidence.isolation.startswith(f"{backend.isolation.level} {backend.isolation.backend} ")

    def test_a_check_that_fails_denies_and_no_approval_lifts_it(self, checked: Repo) -> None:
        stage(checked, {"src/a": "bad\n"})
        judged = judge(checked)
        assert (judged.decision, results(judged)) == ("deny", {"unit": "failed"})
        (finding,) = judged.verdict.findings
        assert finding.message == "the check 'unit' failed: exit code 1"

    def test_only_the_checks_that_the_paths_ask_for_run_and_other_exit_codes_can_pass(
        self, checked: Repo
    ) -> None:
        stage(checked, {"docs/a.md": "a\n"})
        assert results(judge(checked)) == {"words": "passed"}

    def test_a_check_that_takes_too_long_has_failed(self, checked: Repo) -> None:
        stage(checked, {"src/a": "ok\n", "src/b": "b\n"})
        judged = judge(checked)
        session = session_of(checked)
        slow = Check("slow", "sleep 60", timeout_seconds=1)
        found = Replayer(session.repository, environ={}).evidence(judged.verdict.proposal, [slow])
        assert found["slow"].result == "failed"
        assert "stopped at its limit" in found["slow"].detail

    def test_a_check_that_a_signal_ends_has_failed(self, checked: Repo) -> None:
        stage(checked, {"src/a": "still ok\n"})
        proposal = judge(checked, replay=False).verdict.proposal
        killed = Check("killed", "kill -9 $$")
        found = Replayer(session_of(checked).repository, environ={}).evidence(proposal, [killed])
        assert found["killed"].result == "failed"

    def test_B01_the_checks_are_those_of_the_base_and_not_of_the_change(self, checked: Repo) -> None:
        policy = (checked.path / ".safeai/policy.yaml").read_text()
        stage(checked, {".safeai/policy.yaml": policy.replace("sh tests/run", "true"), "src/a": "bad\n"})
        judged = judge(checked)
        assert results(judged) == {"unit": "failed"}
        assert judged.decision == "deny"

    def test_B66_a_check_sees_the_proposed_tree_without_the_working_tree_secrets_or_git(
        self, checked: Repo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SECRET", "s3cret")
        run = "test ! -e .git && test ! -e untracked && grep -q ok src/a && env | grep -v '^PWD=' >&2; ! env | grep -q s3cret"
        stage(checked, {"tests/run": f"{run}\n"})
        checked.write("untracked", "not proposed")
        checked.write("src/a", "changed in the working tree only")
        assert results(judge(checked)) == {"unit": "passed"}

    def test_variables_are_passed_by_name_only_where_the_check_asks(self, checked: Repo) -> None:
        stage(checked, {"src/a": "still ok\n"})
        proposal = judge(checked, replay=False).verdict.proposal
        environ = {"WANTED": "yes", "OTHER": "no"}
        wants = Check("wants", 'test "$WANTED" = yes && test -z "$OTHER"', environment=("WANTED", "ABSENT"))
        found = Replayer(session_of(checked).repository, environ=environ).evidence(proposal, [wants])
        assert found["wants"].result == "passed", found

    def test_what_one_check_writes_another_does_not_see(self, checked: Repo) -> None:
        stage(checked, {"src/a": "still ok\n"})
        proposal = judge(checked, replay=False).verdict.proposal
        checks = [Check("one", "echo x >left-behind"), Check("two", "test ! -e left-behind")]
        found = Replayer(session_of(checked).repository, environ={}).evidence(proposal, checks)
        assert [one.result for one in found.values()] == ["passed", "passed"]
        assert not (checked.path / "left-behind").exists()

    def test_a_refused_change_is_not_run(self, checked: Repo) -> None:
        stage(checked, {"config/keys/prod.pem": "x", "src/a": "ok\n", "src/c": "c\n"})
        judged = judge(checked)
        assert (judged.decision, results(judged)) == ("deny", {})

    def test_a_range_is_replayed_at_its_end(self, checked: Repo) -> None:
        base = checked.git("rev-parse", "HEAD")
        checked.commit("broken on the way", {"src/a": "bad\n"}, ai=True)
        checked.commit("mended", {"src/a": "ok again\n"}, ai=True)
        judged = list(session_of(checked).gate().range(base, checked.git("rev-parse", "HEAD")))
        assert [(one.verdict.proposal.kind, results(one)) for one in judged] == [
            ("commit", {}),
            ("commit", {"unit": "passed"}),
            ("net", {"unit": "passed"}),
        ]

    def test_B82_hooks_remember_evidence_and_an_authority_does_not_believe_it(self, checked: Repo) -> None:
        stage(checked, {"src/a": "bad\n"})
        assert results(judge(checked, remember=True)) == {"unit": "failed"}
        (kept,) = (checked.path / ".git/safeai/evidence").iterdir()
        planted = json.loads(kept.read_bytes()) | {"result": "passed"}
        kept.write_text(json.dumps(planted))
        assert results(judge(checked, remember=True)) == {"unit": "passed"}, "a hook is advice"
        assert results(judge(checked)) == {"unit": "failed"}
        assert checked.safeai("check", "--agent", "claude-code", "--no-sign").code == 1

    @pytest.mark.parametrize(
        "planted", [b"", b"[]", b'{"tree": 1}', b'{"unknown": 1}', b'{"result": "passed"}']
    )
    def test_remembered_rubbish_is_not_evidence(self, checked: Repo, planted: bytes) -> None:
        stage(checked, {"src/a": "bad\n"})
        judge(checked, remember=True)
        (kept,) = (checked.path / ".git/safeai/evidence").iterdir()
        data = json.loads(kept.read_bytes())
        kept.write_bytes(planted)
        assert results(judge(checked, remember=True)) == {"unit": "failed"}
        kept.write_text(json.dumps(data | {"added": "by another version"}))
        assert results(judge(checked, remember=True)) == {"unit": "failed"}

    def test_a_check_without_remembering_leaves_nothing(self, checked: Repo) -> None:
        stage(checked, {"src/a": "still ok\n"})
        judge(checked)
        assert not (checked.path / ".git/safeai/evidence").exists()


@needs_sandbox
class TestCommand:
    def test_of_a_commit(self, checked: Repo) -> None:
        checked.commit("broken", {"src/a": "bad\n"})
        done = checked.safeai("replay", "HEAD", "--check", "unit")
        assert (done.code, "unit: failed (exit code 1" in done.out) == (1, True), done.both
        done = checked.safeai("replay", "HEAD~1")
        # the first commit has no policy before it: the built-in one has no checks
        assert done.code == 2
        assert "the policy has no checks" in done.err

    def test_of_what_is_staged_with_the_output_made_harmless(self, checked: Repo) -> None:
        stage(checked, {"tests/run": "printf '\\033[31mred\\033]0;title\\007\\n'; exit 0\n"})
        done = checked.safeai("replay", "--staged")
        assert done.code == 0, done.both
        assert "red" in done.err
        assert "\x1b" not in done.both
        assert "\x07" not in done.both
        assert "unit: passed" in done.out
        assert "words: passed" in done.out

    def test_quiet_and_json(self, checked: Repo) -> None:
        stage(checked, {"tests/run": "echo loud; exit 0\n"})
        done = checked.safeai("replay", "--staged", "--quiet", "--format", "json", "--check", "unit")
        data = json.loads(done.out)
        assert "loud" not in done.both
        assert data["tree"] == checked.git("write-tree")
        assert [(one["name"], one["result"]) for one in data["checks"]] == [("unit", "passed")]


class TestWrongUse:
    def test_a_check_that_is_not_there(self, checked: Repo) -> None:
        checked.commit("more", {"src/b": "b\n"})
        done = checked.safeai("replay", "HEAD", "--check", "units")
        assert done.code == 2
        assert "the policy has no check 'units'" in done.err
        assert "checks there are: unit, words" in done.err

    def test_neither_or_both_of_commit_and_staged(self, checked: Repo) -> None:
        assert checked.safeai("replay").code == 2
        assert checked.safeai("replay", "HEAD", "--staged").code == 2


class TestWithoutASandbox:
    """Nothing is executed, and nobody takes that for a pass."""

    @pytest.fixture(autouse=True)
    def no_bubblewrap(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, checked: Repo) -> None:
        def missing() -> bubblewrap.Installed:
            raise SandboxUnavailable("bwrap is not installed", hint="apt-get install bubblewrap")

        monkeypatch.setattr(bubblewrap, "installed", missing)
        monkeypatch.setattr(landlock, "abi", lambda: 5)
        self.canary = tmp_path / "executed"
        stage(checked, {"tests/run": f"touch '{self.canary}'\n"})

    def test_replay_could_not_decide(self, checked: Repo) -> None:
        with pytest.raises(SandboxUnavailable, match="bwrap is not installed") as caught:
            commands.replay(session_of(checked), commands.Request(show_output=False))
        assert "apt-get install bubblewrap" in caught.value.hint
        assert not self.canary.exists()

    def test_in_safe_mode_the_change_is_denied(self, checked: Repo) -> None:
        judged = judge(checked)
        assert (judged.decision, results(judged)) == ("deny", {"unit": "undecided"})
        assert "bwrap is not installed" in judged.verdict.findings[0].message
        assert not self.canary.exists()

    def test_otherwise_it_needs_review(self, checked: Repo) -> None:
        policy = (
            (checked.path / ".safeai/policy.yaml").read_text().replace("safe_mode: true", "safe_mode: false")
        )
        checked.git("stash", "-q")
        checked.commit("not so safe", {".safeai/policy.yaml": policy})
        checked.git("stash", "pop", "-q", "--index")
        judged = judge(checked)
        assert (judged.decision, results(judged)) == ("review", {"unit": "undecided"})
        assert not self.canary.exists()

    def test_it_is_not_remembered(self, checked: Repo) -> None:
        judge(checked, remember=True)
        assert not (checked.path / ".git/safeai/evidence").exists()


class TestLevels:
    """Which level a check gets, and what a weaker one makes of it."""

    @pytest.fixture
    def landlock_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing() -> bubblewrap.Installed:
            raise SandboxUnavailable("bwrap is not installed", hint="apt-get install bubblewrap")

        try:
            landlock.installed()
        except SandboxUnavailable as error:
            pytest.skip(error.message)
        monkeypatch.setattr(bubblewrap, "installed", missing)

    def replay(self, checked: Repo, *checks: Check) -> dict[str, CheckEvidence]:
        stage(checked, {"src/a": "still ok\n"})
        proposal = judge(checked, replay=False).verdict.proposal
        self.said: list[str] = []
        replayer = Replayer(session_of(checked).repository, environ={}, progress=self.said.append)
        return replayer.evidence(proposal, checks)

    @pytest.mark.usefixtures("landlock_only")
    def test_a_weaker_level_is_used_and_said(self, checked: Repo) -> None:
        found = self.replay(checked, Check("one", "grep -q ok src/a"))
        assert found["one"].result == "passed"
        assert found["one"].isolation.startswith("C landlock ")
        assert "isolated at level C only; not B bubblewrap: bwrap is not installed" in self.said

    @pytest.mark.usefixtures("landlock_only")
    def test_a_demanded_level_that_cannot_be_had_executes_nothing(
        self, checked: Repo, tmp_path: Path
    ) -> None:
        checks = [Check("strong", "true", isolation="B"), Check("weak", "true")]
        found = self.replay(checked, *checks)
        assert (found["strong"].result, found["weak"].result) == ("undecided", "passed")
        assert "of the level that the policy demands (B)" in found["strong"].detail
        assert found["strong"].isolation == ""

    @pytest.mark.usefixtures("landlock_only")
    def test_what_only_isolation_fails_could_not_decide(self, checked: Repo) -> None:
        program = "import socket; socket.create_server(('127.0.0.1', 0))"
        checks = [
            Check("server", f'/usr/bin/python3 -c "{program}"'),
            Check("place", "ls /root"),
            Check("wrong", "echo wrong; exit 1"),
        ]
        found = self.replay(checked, *checks)
        assert {name: one.result for name, one in found.items()} == {
            "server": "undecided",
            "place": "undecided",
            "wrong": "failed",
        }
        assert "Address family not supported" in found["server"].detail

    @needs_sandbox
    def test_a_tree_is_kept_and_the_command_line_shows_and_clears_it(self, checked: Repo) -> None:
        if choose(state_dir=None).isolation.level != "A":
            pytest.skip("no overlays here: " + "; ".join(choose(state_dir=None).isolation.not_stronger))
        with scratch_directory() as place:
            checked.environment["SAFEAI_TREES"] = str(place)
            checked.write("src/b", "more\n")
            checked.git("add", "-A")
            assert results(judge(checked))["unit"] == "passed"
            assert f"1 tree, about 0 MiB, in {place}" in checked.safeai("cache").out
            assert "trees: 1 tree" in checked.safeai("doctor").out
            told = json.loads(checked.safeai("cache", "--clear", "--format", "json").out)
            assert told == {"folder": str(place), "trees": 0, "bytes": 0}
            assert "no tree is kept in" in checked.safeai("cache").out

    def test_doctor_says_which_level_is_used_and_what_it_lacks(self, checked: Repo) -> None:
        used = choose(state_dir=None).isolation
        said = checked.safeai("doctor").out
        assert f"level {used.level} is used" in said
        for line in (*PROMISES[used.level].guarantees, *PROMISES[used.level].lacks):
            assert line in said

    @needs_sandbox
    def test_with_namespaces_the_same_server_passes(self, checked: Repo) -> None:
        if choose(state_dir=None).isolation.level == "C":
            pytest.skip("there are no namespaces here")
        program = "import socket; socket.create_server(('127.0.0.1', 0))"
        checks = [Check("server", f'/usr/bin/python3 -c "{program}"'), Check("place", "ls /root")]
        found = self.replay(checked, *checks)
        assert {name: one.result for name, one in found.items()} == {"server": "passed", "place": "failed"}


@needs_sandbox
def test_where_no_user_namespace_can_be_had_nothing_is_executed(checked: Repo, tmp_path: Path) -> None:
    """The real thing: a process that may make no more namespaces."""
    limited = ["unshare", "-Ur", "sh", "-c", 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"', "sh"]
    if subprocess.run([*limited, "true"], capture_output=True, check=False).returncode:
        pytest.skip("the number of namespaces cannot be limited here")
    canary = tmp_path / "executed"
    stage(checked, {"tests/run": f"touch '{canary}'\n"})
    done = subprocess.run(
        [*limited, sys.executable, "-m", "safeai_git", "replay", "--staged"],
        cwd=checked.path,
        env=checked.environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert b"no usable sandbox" in done.stderr
    assert not canary.exists()


def test_a_digest_covers_everything_that_decides_what_runs() -> None:
    one = Check("unit", "true")
    others = [
        replace(one, run="false"),
        replace(one, timeout_seconds=7),
        replace(one, memory_bytes=7),
        replace(one, environment=("A",)),
        replace(one, read_only=("/opt",)),
        replace(one, expect_exit=(0, 1)),
    ]
    digests = {command_digest(check) for check in [one, *others]}
    assert len(digests) == len(others) + 1
    assert command_digest(replace(one, name="other")) == command_digest(one)


def test_the_end_of_an_output() -> None:
    assert last_lines(b"a\nb\nc\n\xff", 2).splitlines() == ["c", "�"]


def test_no_replay_is_told_and_needs_review(checked: Repo) -> None:
    stage(checked, {"src/a": "still ok\n"})
    judged = judge(checked, replay=False)
    assert judged.decision == "review"
    assert judged.verdict.findings[0].message == "the check 'unit' has not been replayed"


def test_unknown_check_in_process(checked: Repo) -> None:
    checked.commit("more", {"src/b": "b\n"})
    with pytest.raises(WrongUse):
        commands.replay(session_of(checked), commands.Request("HEAD", "x", show_output=False))
