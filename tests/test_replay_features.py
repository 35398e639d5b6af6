"""What a policy can say about a check, what its evidence holds, its logs, its repetition, and a look inside."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import threading
import zlib
from pathlib import Path

import pytest
from conftest import Repo
from test_replay import checked, checked_template, judge, kept_trees, needs_sandbox, session_of, stage
from tools_cli import Terminal

from safeai_git import replay as module
from safeai_git.check_logs import MOST_LOGS, CheckLogs
from safeai_git.core.context import CheckEvidence
from safeai_git.core.errors import StorageError, WrongUse
from safeai_git.core.policy import Check, Policy, PolicyStack
from safeai_git.core.policy_parts import CheckLimits
from safeai_git.core.values import fields, replace
from safeai_git.evidence import command_digest
from safeai_git.parallel import in_parallel
from safeai_git.replay import Replayer
from safeai_git.sandbox import choice
from safeai_git.schema import faults
from tests.probes.runs import processes_with

__all__ = ["checked", "checked_template", "kept_trees"]


def _levels() -> list[str]:
    if sys.platform != "linux":
        return []
    return [one.level for one in choice.describe() if one.available]


LEVELS = _levels()


@pytest.fixture(params=["A", "B", "C"])
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each level that this machine has, used for every check of the test."""
    if request.param not in LEVELS:
        pytest.skip(f"level {request.param} cannot be had here")
    monkeypatch.setattr(module, "choose", lambda **_: choice.untested(request.param))
    return str(request.param)


def run(repo: Repo, *checks: Check, jobs: int = 1) -> dict[str, CheckEvidence]:
    stage(repo, {"src/a": "still ok\n"})
    tree = judge(repo, replay=False).verdict.proposal.tree
    return Replayer(session_of(repo).repository, environ={}, jobs=jobs).of_tree(tree, checks)


class TestArtifacts:
    def test_their_digests_are_evidence_at_every_level(self, checked: Repo, level: str) -> None:
        made = Check("made", "mkdir out && printf made >out/a && printf x >b", artifacts=("out/a", "b"))
        found = run(checked, made)["made"]
        assert found.result == "passed", found
        assert [(one.path, one.sha256, one.bytes) for one in found.artifacts] == [
            ("out/a", hashlib.sha256(b"made").hexdigest(), 4),
            ("b", hashlib.sha256(b"x").hexdigest(), 1),
        ]
        assert found.isolation.startswith(level)

    def test_what_is_not_there_or_no_file_of_its_own_has_not_been_made(
        self, checked: Repo, level: str
    ) -> None:
        """Links would be read on the host; a pipe would keep its reader waiting."""
        hostile = {
            "missing": "true",
            "link": "ln -s /etc/passwd x",
            "link on the way": "ln -s /etc d; ln -s d e; mkdir -p f; ln -s ../d f/x; ln -s f/x x",
            "folder": "mkdir x",
            "pipe": "mkfifo x",
            "unreadable": "printf a >x; chmod 0 x",
            "large": "head -c 3000 /dev/zero >x",
        }
        limits = CheckLimits(file_bytes=4_000)
        checks = [
            Check(name.replace(" ", "-"), f"{line}; true", artifacts=("x",), limits=limits)
            for name, line in hostile.items()
            if name != "unreadable" or os.getuid() != 0
        ]
        found = run(checked, *checks)
        results = {name: (one.result, bool(one.artifacts)) for name, one in found.items()}
        assert results.pop("large") == ("passed", True)
        assert set(results.values()) == {("failed", False)}, found
        assert all("did not make what it should: x" in found[name].detail for name in results)
        beneath = Check("beneath", "ln -s /etc d", artifacts=("d/passwd",))
        assert run(checked, beneath)["beneath"].result == "failed"


@needs_sandbox
class TestKeys:
    def test_the_limits_are_those_of_the_policy_and_stand_in_the_evidence(self, checked: Repo) -> None:
        limits = CheckLimits(output_bytes=1_000, processes=77)
        found = run(checked, Check("loud", "yes", limits=limits, timeout_seconds=20))["loud"]
        assert (found.result, found.limit, found.exit_code, found.signal) == ("failed", "output", None, 9)
        assert found.output_bytes == 1_000
        assert found.limits == {"wall_seconds": 20, "memory_bytes": 2**31, **fields(limits)}

    def test_a_program_that_is_needed_and_not_there_is_no_answer(self, checked: Repo, tmp_path: Path) -> None:
        found = run(
            checked,
            Check("there", "true", needs=("sh", "cat")),
            Check("absent", "true", needs=("sh", "surely-not-installed")),
        )
        assert {name: one.result for name, one in found.items()} == {"there": "passed", "absent": "undecided"}
        assert "needs surely-not-installed" in found["absent"].detail
        assert found["absent"].isolation == ""

    def test_programs_of_a_folder_that_is_shown_are_found(self, checked: Repo, tmp_path: Path) -> None:
        folder = Path("/usr/lib/python3")
        if not folder.is_dir():
            pytest.skip("there is no such folder here")
        check = Check("shown", "true", needs=("sh",), read_only=(str(folder),))
        assert run(checked, check)["shown"].result == "passed"

    def test_a_check_that_fails_by_chance_gives_no_answer(self, checked: Repo) -> None:
        flaky = Check("flaky", "exit $(($(cat src/a | wc -c) % 2))", deterministic=False, attempts=3)
        same = run(checked, flaky)["flaky"]
        assert (same.result, same.attempts, "in each of 3 attempts" in same.detail) == ("failed", 3, True)
        once = Check("once", "exit 1")
        assert run(checked, once)["once"].attempts == 1
        luck = Check(
            "luck",
            "test $(od -An -N1 -tu1 /dev/urandom) -gt 127 || exit 1",
            deterministic=False,
            attempts=10,
        )
        seen: set[str] = set()
        for _ in range(60):  # a coin that shows one side sixty times is none
            seen.add(run(checked, luck)["luck"].result)
            if seen >= {"passed", "undecided"}:
                break
        # failing ten times of ten, one in a thousand, is a failure
        assert seen - {"failed"} == {"passed", "undecided"}

    def test_of_two_layers_checks_of_one_name_the_worse_counts(self, checked: Repo) -> None:
        strict, lax = Check("unit", "exit 1"), Check("unit", "true")
        assert run(checked, strict, lax)["unit"].result == "failed"
        assert run(checked, lax, strict)["unit"].result == "failed"

    def test_what_the_organisation_does_not_let_it_see_it_does_not_run_with(self, checked: Repo) -> None:
        stage(checked, {"src/a": "still ok\n"})
        tree = judge(checked, replay=False).verdict.proposal.tree
        one = {"name": "a", "run": "true", "read_only": ["/usr/lib"]}
        ours = Policy.from_data({"checks": [one]}, {}, "p", "0" * 64)
        replayer = Replayer(session_of(checked).repository, environ={})
        for allowed, result in (([], "undecided"), (["/usr"], "passed"), (["/usr/li"], "undecided")):
            theirs = Policy.from_data({"allow_read_only": allowed}, {}, "o", "1" * 64)
            policy = PolicyStack((theirs, ours))
            found = replayer.of_tree(tree, policy.checks, policy)["a"]
            assert found.result == result, found

    def test_several_at_one_time_say_the_same(self, checked: Repo) -> None:
        checks = [
            Check(f"check-{number}", f"echo {number}; test {number} -ne 2 && grep -q ok src/a")
            for number in range(4)
        ]
        alone, together = run(checked, *checks), run(checked, *checks, jobs=3)
        assert list(alone) == list(together)
        for name, one in alone.items():
            assert replace(one, seconds=0) == replace(together[name], seconds=0)
        assert together["check-2"].result == "failed"


@needs_sandbox
def test_an_interrupt_ends_all_that_run(checked: Repo) -> None:
    marker = f"interrupted-{os.getpid()}"
    policy = (checked.path / ".safeai/policy.yaml").read_text()
    more = "".join(
        f"  - {{name: long-{number}, run: '{{ sleep 600; : {marker}-{number}; }}'}}\n" for number in range(3)
    )
    checked.commit("long ones", {".safeai/policy.yaml": policy + more})
    checked.commit("change", {"src/a": "ok\n"})
    command = [sys.executable, "-m", "safeai_git", "replay", "HEAD", "--jobs", "2", "--quiet"]
    with subprocess.Popen(
        command, cwd=checked.path, env=checked.environment, stderr=subprocess.PIPE
    ) as process:
        while sum(bool(processes_with(f"{marker}-{number}")) for number in range(3)) < 2:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert processes_with(marker) == []


@needs_sandbox
def test_on_a_terminal_a_line_says_what_runs_and_it_goes_away(checked: Repo) -> None:
    stage(checked, {"tests/run": "sleep 600\n"})
    terminal = Terminal(
        ["replay", "--staged", "--quiet", "--check", "unit"], checked.path, checked.environment
    )
    assert b"\r\x1b[K... running: unit" in terminal.read_until(b"running: unit")
    terminal.press_ctrl_c()
    assert terminal.end() == 130
    assert terminal.output.rpartition(b"running: unit")[2].count(b"\r\x1b[K") == 1


def test_the_first_error_ends_the_others() -> None:
    stopping = threading.Event()

    def do(number: int) -> int:
        if number == 1:
            raise ValueError("one")
        assert stopping.wait(60)
        return number

    with pytest.raises(ValueError, match="one"):
        in_parallel(do, [0, 1, 2], 2, stopping)
    assert in_parallel(abs, [-3, 2, -1], 2, threading.Event()) == {-3: 3, 2: 2, -1: 1}


def test_a_digest_covers_what_the_newer_keys_say() -> None:
    one = Check("unit", "true")
    others = [
        replace(one, limits=CheckLimits(processes=7)),
        replace(one, needs=("sh",)),
        replace(one, deterministic=True),
        replace(one, deterministic=False),
        replace(one, deterministic=False, attempts=9),
        replace(one, artifacts=("a",)),
        replace(one, isolation="A"),
    ]
    assert len({command_digest(check) for check in [one, *others]}) == len(others) + 1


@needs_sandbox
class TestLogs:
    def test_what_a_check_printed_is_kept_and_shown_harmless(self, checked: Repo) -> None:
        stage(checked, {"tests/run": "printf 'red\\033]0;title\\007\\nend'; exit 1\n"})
        done = checked.safeai("replay", "--staged", "--quiet", "--format", "json", "--check", "unit")
        assert faults(json.loads(done.out), "output", "replay") == []
        (one,) = json.loads(done.out)["checks"]
        assert one["output_sha256"] == hashlib.sha256(b"red\x1b]0;title\x07\nend").hexdigest()
        done = checked.safeai("replay", "--log", one["output_sha256"][:8])
        assert (done.code, done.out) == (0, "red\\x1b]0;title\\x07\nend\n")
        done = checked.safeai("replay", "--staged", "--quiet", "--check", "unit")
        assert f"safeai-git replay --log {one['output_sha256'][:12]}" in done.err

    def test_what_is_not_there_is_wrong_use_and_a_damaged_one_is_told(self, checked: Repo) -> None:
        assert checked.safeai("replay", "--log", "0" * 64).code == 2
        assert checked.safeai("replay", "--log", "../evid").code == 2
        stage(checked, {"tests/run": "echo words\n"})
        judge(checked)
        (kept,) = (checked.path / ".git/safeai/logs").iterdir()
        other = kept.with_name(f"{'ab' * 32}.zlib")
        other.write_bytes(kept.read_bytes())
        assert checked.safeai("replay", "--log", "abababab").code == 3
        other.write_bytes(b"no stream")
        assert checked.safeai("replay", "--log", "abababab").code == 3


class TestLogStore:
    def test_the_oldest_make_room(self, tmp_path: Path) -> None:
        logs = CheckLogs(tmp_path)
        for number in range(MOST_LOGS):
            place = tmp_path / f"{number:064x}.zlib"
            place.touch()
            os.utime(place, (number + 1, number + 1))
        logs.keep("f" * 64, b"x")
        names = sorted(one.name for one in tmp_path.iterdir())
        assert (len(names), names[0], names[-1]) == (MOST_LOGS, f"{1:064x}.zlib", f"{'f' * 64}.zlib")

    def test_a_full_or_closed_folder_stops_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        CheckLogs(tmp_path / "file").keep("f" * 64, b"x")
        with pytest.raises(WrongUse):
            CheckLogs(tmp_path / "file").find("f" * 64)

    def test_a_bomb_is_not_unpacked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("safeai_git.check_logs.LARGEST_LOG", 10_000)
        (tmp_path / f"{'ab' * 32}.zlib").write_bytes(zlib.compress(bytes(2 * 2**20)))
        with pytest.raises(StorageError):
            CheckLogs(tmp_path).find("ab" * 32)


@needs_sandbox
class TestAgain:
    """A verdict is made in one clone and derived again in another."""

    @pytest.fixture
    def verdict(self, checked: Repo, tmp_path: Path) -> Repo:
        policy = (checked.path / ".safeai/policy.yaml").read_text()
        more = "  - {name: makes, run: 'printf $((6*7)) >out', artifacts: [out], paths: [src/], deterministic: true}\n"
        checked.commit("one more", {".safeai/policy.yaml": policy + more})
        checked.commit("change", {"src/a": "ok again\n"}, ai=True)
        assert checked.safeai("keys", "generate").code == 0
        done = checked.safeai("check", "--range", "HEAD~1..HEAD", "--sign")
        assert done.code == 0, done.both
        return checked

    def test_the_same_elsewhere_and_not_the_same_when_it_lies(self, verdict: Repo, tmp_path: Path) -> None:
        done = verdict.safeai("replay", "--again", "HEAD", "--format", "json", "--quiet")
        data = json.loads(done.out)
        assert done.code == 0, done.both
        assert faults(data, "output", "replay-again") == []
        assert data["whole"] is True
        assert [(one["name"], one["same"]) for one in data["checks"]] == [("unit", True), ("makes", True)]
        fields = {one["name"] for one in data["checks"][1]["fields"]}
        assert fields >= {"tree", "command_digest", "level", "exit_code", "output_sha256", "artifacts"}

        elsewhere = Repo(tmp_path / "elsewhere", verdict.environment)
        verdict.git("clone", "-q", str(verdict.path), str(elsewhere.path))
        elsewhere.git("fetch", "-q", "origin", "refs/notes/safeai:refs/notes/safeai")
        done = elsewhere.safeai("replay", "--again", "HEAD", "--quiet")
        assert done.code == 0, done.both
        assert "is not in .git/safeai/reports" in done.err

        note = verdict.git("notes", "--ref", "safeai", "show", "HEAD").splitlines()[0]
        envelope = json.loads(note)
        statement = json.loads(base64.b64decode(envelope["payload"]))
        for one in statement["predicate"]["evidence"]:
            one["result"] = "failed"
        envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
        (tmp_path / "forged").write_text(json.dumps(envelope) + "\n")
        done = elsewhere.safeai("replay", "--again", str(tmp_path / "forged"), "--quiet")
        assert done.code in (1, 3), done.both

    def test_what_cannot_be_found_out_is_3(self, verdict: Repo, tmp_path: Path) -> None:
        assert verdict.safeai("replay", "--again", "HEAD~2").code == 3
        (verdict.path / "HEAD").write_text("no verdict\n")
        assert verdict.safeai("replay", "--again", "HEAD", "--quiet").code == 0
        (tmp_path / "rubbish").write_text("{}\n")
        assert verdict.safeai("replay", "--again", str(tmp_path / "rubbish")).code == 3


class TestShell:
    def test_without_a_terminal_it_is_wrong_use(self, checked: Repo) -> None:
        assert checked.safeai("replay", "--shell", "HEAD").code == 2

    def test_a_look_inside_shares_no_terminal_and_records_nothing(self, checked: Repo, level: str) -> None:
        before = sorted(str(one) for one in (checked.path / ".git/safeai").rglob("*"))
        script = (
            "/usr/bin/python3 -c 'import fcntl, termios; fcntl.ioctl(0, termios.TIOCSTI, b\"x\")' 2>&1 | tail -1\n"
            "printf '\\033]0;title\\007'; test -t 0 && test -t 1 && echo a-ter''minal; echo tree-$(cat src/a)\n"
            "test -e .git || echo no-''git; sh -c 'echo rea\"\"dy; exec sleep 1000'\nexit 5\n"
        )
        code, said = talk(checked, script, level)
        assert code == 0, said
        assert "Nothing is recorded" in said
        assert "Operation not permitted" in said
        assert "\x1b]0;" not in said
        assert "\\x1b]0;title" in said
        for word in ("a-terminal", "tree-ok", "no-git", "nothing was recorded"):
            assert word in said, said
        assert sorted(str(one) for one in (checked.path / ".git/safeai").rglob("*")) == before


AT_LEVEL = """
from safeai_git import replay
from safeai_git.__main__ import main
from safeai_git.sandbox import choice
replay.choose = lambda **_: choice.untested("{level}")
main()
"""


def talk(repo: Repo, script: str, level: str) -> tuple[int, str]:
    """Type into ``safeai-git replay --shell HEAD`` on a real terminal, a line at each prompt."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(repo.path)
        command = [sys.executable, "-c", AT_LEVEL.format(level=level), "replay", "--shell", "HEAD"]
        os.execve(sys.executable, command, repo.environment)
    before = termios.tcgetattr(terminal)
    said = b""
    lines = re.split(r"(?<=\n)", script)
    prompts = 0
    try:
        while True:
            ready, _, _ = select.select([terminal], [], [], 30)
            assert ready, said
            try:
                piece = os.read(terminal, 65_536)
            except OSError:
                break
            if not piece:
                break
            said += piece
            if said.count(b"sandbox$ ") > prompts and lines:
                prompts = said.count(b"sandbox$ ")
                line = lines.pop(0)
                os.write(terminal, line.encode())
                if "sleep 1000" in line:  # Ctrl-C ends it, or nothing does
                    while b"ready\r\n" not in said:
                        said += os.read(terminal, 65_536)
                    os.write(terminal, b"\x03")
        assert termios.tcgetattr(terminal) == before, "the person's terminal is as it was"
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), said.decode("utf-8", "replace")
