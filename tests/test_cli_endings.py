"""How a run ends when something ends it: Ctrl-C, a signal, a fault of the program, the deadline, the kill switch."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import AI_TRAILER, POLICY, Repo
from tools_cli import PATIENCE, SAFEAI, Terminal, make, start

from safeai_git.__main__ import INTERRUPTED, UNDECIDED, WRONG_USE, Terminated, guarded
from safeai_git.commands.quick import kill_switch
from safeai_git.commands.session import Session
from safeai_git.core.errors import (
    DeadlinePassed,
    LogProofInvalid,
    PolicyError,
    SafeAIError,
    StorageError,
    WrongUse,
)
from safeai_git.gate import Deadline

COMMITS = 1500


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory, base_environment: dict[str, str]) -> Repo:
    """A repository with more history than can be judged before somebody loses patience."""
    folder = tmp_path_factory.mktemp("long")
    environment = base_environment | {"XDG_CONFIG_HOME": str(folder / "config")}
    repo = start(make(folder / "repo", environment))
    stream = [b"reset refs/heads/main\nfrom %s\n" % repo.git("rev-parse", "HEAD").encode()]
    message = f"edit\n\n{AI_TRAILER}\n".encode()
    for number in range(COMMITS):
        content = b"n = %d\n" % number
        stream.append(
            b"commit refs/heads/main\ncommitter M <m@example.com> %d +0000\ndata %d\n%b"
            b"M 100644 inline src/n%d.py\ndata %d\n%b\n"
            % (1767322000 + number, len(message), message, number % 97, len(content), content)
        )
    repo.git("tag", "first")
    repo.git("fast-import", "--quiet", "--force", stdin=b"".join(stream))
    repo.git("reset", "-q", "--hard")
    return repo


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def children_of(process: int) -> list[tuple[int, str]]:
    """Each child's number and when it started: a number alone soon stands for another process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if after_name[1] == str(process):  # proc(5): state, then the parent
            found.append((int(stat.parent.name), after_name[19]))
    return found


def is_there(child: tuple[int, str]) -> bool:
    try:
        after_name = Path(f"/proc/{child[0]}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    # What has ended stays as a zombie where whoever adopts it does not ask for it.
    return after_name[19] == child[1] and after_name[0] not in "ZX"


def nothing_left(scratch: Path, marker: str) -> None:
    """No folder of ours and no process that knows this test's marker."""
    assert list(scratch.iterdir()) == []

    def gone() -> bool:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if marker.encode() in (folder / "environ").read_bytes() and int(folder.name) != os.getpid():
                    return False
            except OSError:
                continue
        return True

    wait_for(gone)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_in_the_middle_of_a_range_leaves_nothing_behind(
    long: Repo, tmp_path: Path, number: int, code: int
) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    marker = f"SAFEAI_TEST_MARKER={tmp_path}"
    environment = long.environment | {"TMPDIR": str(scratch), "SAFEAI_TEST_MARKER": str(tmp_path)}
    process = subprocess.Popen(
        [*SAFEAI, "check", "--range", "first..HEAD", "--format", "jsonl"],
        cwd=long.path,
        env=environment,
        bufsize=0,  # what is read ahead would be lost to communicate
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    first = process.stdout.readline()  # it judges now, and has its scratch folder
    assert list(scratch.glob("safeai-*"))
    process.send_signal(number)
    rest, err = process.communicate(timeout=PATIENCE)
    out = first + rest
    assert process.returncode == code
    assert b"no decision was made" in err
    assert b"Traceback" not in err
    assert b'"signed"' not in out
    for line in out.splitlines():
        json.loads(line)
    nothing_left(scratch, marker)
    assert long.git("for-each-ref", "refs/notes") == ""


def test_ctrl_c_while_signing_leaves_whole_verdicts(long: Repo, tmp_path: Path) -> None:
    shutil.copytree(long.path, tmp_path / "repo")
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    repo = Repo(tmp_path / "repo", long.environment)
    process = subprocess.Popen(
        [*SAFEAI, "check", "--range", "HEAD~400..HEAD"],
        cwd=repo.path,
        env=repo.environment | {"TMPDIR": str(scratch), "SAFEAI_TEST_MARKER": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    reports = repo.path / ".git" / "safeai" / "reports"
    wait_for(lambda: reports.is_dir() and any(reports.glob("*.json")))
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    nothing_left(scratch, f"SAFEAI_TEST_MARKER={tmp_path}")
    assert not list((repo.path / ".git").rglob("*.lock"))
    assert not list(reports.glob(".*"))
    for report in reports.glob("*.json"):
        json.loads(report.read_bytes())
    if repo.git("for-each-ref", "refs/notes/safeai"):
        repo.git("fsck", "--no-dangling", "--strict", "refs/notes/safeai")
    repo.git("update-ref", "refs/heads/few", "HEAD~397")
    again = repo.safeai("check", "--range", "HEAD~400..few")
    assert again.code == 0, again.both
    assert repo.safeai("verify", "HEAD~400..few").code == 0


def mark_of(repo: Repo) -> str:
    """What only this repository's trees hold; its own name is that of earlier runs' too."""
    return (repo.path.parent / "mark").read_text()


@pytest.fixture
def replaying(repo: Repo) -> Repo:
    checks = "checks:\n  - name: forever\n    run: 'echo started; sleep 1000'\n    timeout_seconds: 1000\n"
    start(repo, POLICY + checks)
    (repo.path.parent / "mark").write_text(uuid.uuid4().hex)
    repo.commit("by an agent", {"src/b.py": "b = 1\n", f"src/only-{mark_of(repo)}": ""}, ai=True)
    done = repo.safeai("doctor", "--format", "json")
    found = json.loads(done.out)["examined"]
    if not any(one["what"].startswith("sandbox") and one["state"] == "ok" for one in found):
        pytest.skip("no sandbox here, so nothing is replayed")
    return repo


def trees_in_memory(repo: Repo) -> list[Path]:
    """Replayed trees of this repository, which other tests beside this one have none of."""
    return list(Path("/dev/shm").glob(f"safeai-*/**/only-{mark_of(repo)}"))


def test_ctrl_c_ends_a_replay_with_everything_in_it(replaying: Repo, tmp_path: Path) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    environment = replaying.environment | {
        "TMPDIR": str(scratch),
        "TERM": "xterm",
        "SAFEAI_TEST_MARKER": str(tmp_path),
    }
    terminal = Terminal(["replay", "HEAD"], replaying.path, environment)
    assert b"\nstarted" in terminal.read_until(b"\nstarted"), terminal.output
    assert children_of(terminal.process.pid)
    terminal.press_ctrl_c()
    assert terminal.end() == 130, terminal.output
    assert b"interrupted; no decision was made" in terminal.output
    assert b"Traceback" not in terminal.output
    nothing_left(scratch, f"SAFEAI_TEST_MARKER={tmp_path}")
    assert not trees_in_memory(replaying)


def test_being_terminated_ends_a_replay_too(replaying: Repo, tmp_path: Path) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    process = subprocess.Popen(
        [*SAFEAI, "replay", "HEAD"],
        cwd=replaying.path,
        env=replaying.environment | {"TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    while (
        process.stderr.readline() != b"started\n"
    ):  # the check says it; what announces the check does not count
        assert process.poll() is None
    inside = children_of(process.pid)
    assert inside
    process.terminate()
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143
    assert b"terminated; no decision was made" in err
    wait_for(lambda: not any(map(is_there, inside)))
    assert list(scratch.iterdir()) == []
    assert not trees_in_memory(replaying)


# What becomes of an error


class NativePanic(BaseException):
    """Like `pyo3_runtime.PanicException`, which is no Exception."""


def raising(error: BaseException) -> Callable[[], int]:
    def action() -> int:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            WrongUse("bad arguments", hint="other ones"),
            WRONG_USE,
            "safeai-git: bad arguments\n  hint: other ones\n",
        ),
        (PolicyError("policy.yaml:1:1: bad"), UNDECIDED, "safeai-git: policy.yaml:1:1: bad\n"),
        (LogProofInvalid("forked"), UNDECIDED, "safeai-git: forked\n"),
        (StorageError("full \x1b[2J"), UNDECIDED, "safeai-git: full \\x1b[2J\n"),
        (KeyboardInterrupt(), INTERRUPTED, "safeai-git: interrupted; no decision was made\n"),
        (Terminated(15), 143, "safeai-git: terminated; no decision was made\n"),
        (BrokenPipeError(), UNDECIDED, ""),
        (
            OSError(28, "No space left on device", "/x"),
            UNDECIDED,
            "safeai-git: No space left on device: /x\n",
        ),
        (
            ZeroDivisionError("oops"),
            UNDECIDED,
            "safeai-git: a fault of the program: ZeroDivisionError: oops\n",
        ),
        (MemoryError(), UNDECIDED, "safeai-git: a fault of the program: MemoryError: \n"),
        (RecursionError("deep"), UNDECIDED, "safeai-git: a fault of the program: RecursionError: deep\n"),
        (SystemExit(0), UNDECIDED, "safeai-git: a fault of the program: SystemExit: 0\n"),
        (NativePanic("panicked"), UNDECIDED, "safeai-git: a fault of the program: NativePanic: panicked\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_error_reads_as_consent(
    error: BaseException,
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SAFEAI_DEBUG", raising=False)
    assert guarded(raising(error)) == code != 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(said)
    assert "Traceback" not in printed.err


def test_every_error_of_ours_has_a_code_that_is_not_0() -> None:
    pending, seen = [SafeAIError], set()
    while pending:
        kind = pending.pop()
        seen.add(kind)
        pending += kind.__subclasses__()
    assert len(seen) > 10
    for kind in seen - {SafeAIError}:
        error = kind.__new__(kind)
        SafeAIError.__init__(error, "x")
        assert guarded(raising(error)) == (WRONG_USE if issubclass(kind, WrongUse) else UNDECIDED)


def test_a_fault_of_the_program_is_shown_whole_when_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAFEAI_DEBUG", "1")
    assert guarded(raising(ZeroDivisionError("oops"))) == UNDECIDED
    said = capsys.readouterr().err
    assert "Traceback (most recent call last)" in said
    assert "a fault of the program: ZeroDivisionError: oops" in said


# Deadline and kill switch


def test_B14_past_the_deadline_there_is_no_decision(governed: Repo) -> None:
    Deadline(3600).check()
    Deadline(0).check()
    with pytest.raises(DeadlinePassed, match=r"no decision within 1e-09 seconds") as caught:
        Deadline(1e-9).check()
    assert "deadline_seconds" in caught.value.hint
    governed.write("src/b.py", "b = 1\n")
    governed.git("add", "-A")
    session = Session(governed.path, governed.environment)
    try:
        with pytest.raises(DeadlinePassed):
            session.gate(deadline_seconds=1e-9).staged()
        assert session.gate(deadline_seconds=3600).staged().decision == "allow"
    finally:
        session.close()


SLOW_HOOK = """
import sys, time
from safeai_git import judging
from safeai_git.__main__ import finish
from safeai_git.hook import run_hook

clock = iter(range(0, 10**9, 10))
judging.time = type("Clock", (), {"monotonic": staticmethod(lambda: next(clock)), "time": time.time})
finish(lambda: run_hook("pre-commit", []))
"""


def test_B14_a_hook_that_is_too_slow_stops_the_commit(governed: Repo) -> None:
    governed.commit("deadline", {".safeai/policy.yaml": POLICY + "deadline_seconds: 1\n"})
    governed.write("src/b.py", "b = 1\n")
    governed.git("add", "-A")
    done = subprocess.run(
        [sys.executable, "-c", SLOW_HOOK],
        cwd=governed.path,
        env=governed.environment | {"CLAUDECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3
    assert "no decision within 1 seconds" in done.stderr
    assert "split the change, or raise 'deadline_seconds' in the policy" in done.stderr


@pytest.mark.parametrize("value", ["off", "OFF", "0", "false", "no", "nonsense", " off "])
def test_whatever_is_not_on_engages_the_kill_switch(value: str) -> None:
    assert kill_switch({"SAFEAI_ENABLE": value}).state == "engaged"


def test_B88_the_kill_switch_is_a_finding_like_any_other(governed: Repo) -> None:
    governed.write("src/b.py", "b = 1\n")
    governed.git("add", "-A")
    check = ["check", "--agent", "claude-code", "--no-sign"]
    off = governed.safeai(*check, env={"SAFEAI_ENABLE": "off"})
    assert off.code == 1
    assert "[kill-switch]" in off.out
    assert "the kill switch is engaged: SAFEAI_ENABLE=off on this machine" in off.out
    hook = governed.safeai("hook", "run", "pre-commit", env={"SAFEAI_ENABLE": "off", "CLAUDECODE": "1"})
    assert hook.code == 1
    assert "[kill-switch]" in hook.err
    for value in ("", "on", "1", "true", "ON"):
        assert kill_switch({"SAFEAI_ENABLE": value}).state != "engaged"
    assert governed.safeai(*check, env={"SAFEAI_ENABLE": "on"}).code == 0
