"""Level C by itself: what it asks of the kernel, what it allows, and that without it nothing runs."""

from __future__ import annotations

import errno
import json
import os
import signal
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_sandbox_parts import _error, _judge
from tools_cli import PATIENCE

from safeai_git.core.errors import SandboxUnavailable
from safeai_git.sandbox import choice, landlock, layout, seccomp, supervise
from safeai_git.sandbox.levels import PROMISES, caused_by_isolation, limit_met
from safeai_git.sandbox.port import LEVELS, Backend, Job, Limits
from safeai_git.sandbox.scratch import scratch_directory
from tests.probes.runs import processes_with

PROJECT = Path(__file__).resolve().parent.parent


def _why_not() -> str:
    if sys.platform != "linux":
        return "Landlock is Linux's"
    try:
        landlock.installed()
    except SandboxUnavailable as error:
        return error.message
    return ""


WHY_NOT = _why_not()
real = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "there is Landlock")


@pytest.fixture
def backend() -> Backend:
    return choice.untested("C")


@pytest.fixture
def job() -> Iterator[Job]:
    with scratch_directory(room=2**20) as scratch:
        (scratch / "tree").mkdir(mode=0o700)
        yield Job("a-check", ("/bin/sh", "-c", "touch ran"), scratch / "tree", Path("/srv/r"))


def _with(job: Job, *argv: str) -> Job:
    return Job(job.name, argv, job.tree, job.mount_at, limits=Limits(wall_seconds=60))


UNDER_A_FILTER = """
import ctypes, os, struct, sys
steps = [tuple(map(int, one.split(","))) for one in sys.argv[1].split(";")]
code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *one) for one in steps))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_void_p)]
libc = ctypes.CDLL(None)
program = Program(len(steps), ctypes.cast(code, ctypes.c_void_p).value)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
exec(sys.argv[2])
"""


def _under_a_filter(steps: list[tuple[int, int, int, int]], program: str) -> str:
    """Run a program of the product where a filter lies around it already, as in a container."""
    text = ";".join(",".join(map(str, one)) for one in steps)
    done = subprocess.run(
        [sys.executable, "-c", UNDER_A_FILTER, text, program],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        env={"PATH": os.defpath},
    )
    assert done.stderr == ""
    return done.stdout.strip()


def _refusing(number: int, code: str) -> list[tuple[int, int, int, int]]:
    refusal = seccomp.refusal(getattr(errno, code))
    return [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, refusal), (0x06, 0, 0, seccomp.ALLOW)]


@pytest.mark.skipif(sys.platform != "linux", reason="Landlock is Linux's")
@pytest.mark.parametrize(("code", "cause"), [("ENOSYS", "no Landlock"), ("EOPNOTSUPP", "switched off")])
def test_a_kernel_without_landlock_is_told_apart(code: str, cause: str) -> None:
    program = (
        "from safeai_git.sandbox import landlock\nfrom safeai_git.core.errors import SandboxUnavailable\n"
        "try:\n    landlock.installed()\nexcept SandboxUnavailable as error:\n    print(error.message, '/', error.hint)\n"
    )
    said = _under_a_filter(_refusing(444, code), program)
    assert cause in said
    assert "6.12" in said


@real
def test_a_filter_around_everything_does_not_pass_for_ones_own() -> None:
    """In a container each process has one; only one more shows that a check is confined."""
    program = (
        "import os\nfrom safeai_git.sandbox import orphans, supervise\n"
        "child = os.fork()\nos._exit(0) if child and False else None\n"
        "print(supervise._is_bound(os.getpid(), orphans.filters(os.getpid())), open('/proc/self/status').read().count('Seccomp:\\t2'))\n"
        "os._exit(0) if child == 0 else os.waitpid(child, 0)\n"
    )
    said = _under_a_filter([(0x06, 0, 0, seccomp.ALLOW)], program)
    assert set(said.splitlines()) == {"False 1"}


@real
def test_an_older_landlock_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 5)
    with pytest.raises(SandboxUnavailable, match="ABI is 5 here, 6 is needed"):
        landlock.installed()


@real
def test_what_may_be_written_is_the_trees_own(job: Job) -> None:
    rules = landlock.specification(job, [], Path("/own"), None)["rules"]
    writes = landlock.FILES & ~(landlock.READ | landlock.DEVICE)
    writable = {path for path, access in rules["allowed"] if access & writes}
    assert writable == {str(job.tree), "/own/home", "/own/tmp"}
    readable = {path for path, _ in rules["allowed"]}
    for place in ("/", "/proc", "/dev", "/etc", "/home", "/root", "/run", "/tmp", "/var", "/sys", "/dev/shm"):
        assert place not in readable
    assert (rules["files"], rules["network"], rules["scoped"]) == (0xFFFF, 3, 3)
    only_of_folders = ~(landlock.DEVICE | 1)
    for path, access in rules["allowed"]:
        if Path(path).is_file():
            assert not access & only_of_folders, path


@real
def test_what_the_policy_shows_can_be_read_and_not_written(
    backend: Backend, job: Job, tmp_path: Path
) -> None:
    place = Path("/var/tmp") / f"safeai-test-{uuid.uuid4().hex}"
    place.mkdir(mode=0o755)
    try:
        (place / "tool").write_text("shown")
        (place / "tool").chmod(0o666)
        shown = Job(
            "j",
            ("/bin/sh", "-c", f"cat {place}/tool; echo x >{place}/tool"),
            job.tree,
            job.mount_at,
            read_only=(place,),
        )
        hidden = Job("j", ("/bin/sh", "-c", f"cat {place}/tool"), job.tree, job.mount_at)
        outcome = backend.run(shown)
        assert outcome.output.startswith(b"shown")
        assert outcome.exit_code not in (0, None)
        assert (place / "tool").read_text() == "shown"
        assert b"shown" not in backend.run(hidden).output
    finally:
        (place / "tool").unlink()
        place.rmdir()


@real
def test_what_cannot_be_confined_is_not_executed(
    backend: Backend, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = landlock.specification
    for change in ({"files": 1 << 60}, {"allowed": [("/usr", 1 << 40)]}):

        def wrong(*arguments: object, change: dict[str, object] = change) -> dict[str, object]:
            found = plain(*arguments)  # type: ignore[arg-type]
            found["rules"] |= change
            return found

        monkeypatch.setattr(landlock, "specification", wrong)
        with pytest.raises(SandboxUnavailable, match=r"nothing was executed: confine: .*Invalid argument"):
            backend.run(job)
        assert not (job.tree / "ran").exists()
    monkeypatch.setattr(landlock, "specification", plain)
    assert backend.run(job).passed
    assert (job.tree / "ran").exists()


@real
def test_a_launcher_ended_from_outside_is_no_answer_and_takes_its_check_with_it(
    backend: Backend, job: Job
) -> None:
    marker = f"landlock-{uuid.uuid4().hex}"

    def kill(_piece: bytes) -> None:
        launchers = [pid for pid in processes_with(marker) if supervise._parent(pid) == os.getpid()]
        os.kill(launchers[0], signal.SIGKILL)

    with pytest.raises(SandboxUnavailable, match="ended from outside, by signal 9"):
        backend.run(
            _with(job, "/bin/sh", "-c", "(setsid sh -c 'sleep 600; :' $0 &); echo up; sleep 600", marker),
            on_output=kill,
        )
    deadline = time.monotonic() + PATIENCE
    while processes_with(marker) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert processes_with(marker) == []


@real
def test_what_it_makes_beside_the_tree_goes_away(backend: Backend, job: Job) -> None:
    outcome = backend.run(_with(job, "/bin/sh", "-c", "echo $HOME; mkdir $TMPDIR/a; chmod 0 $TMPDIR/a"))
    home = Path(outcome.output.decode().strip())
    assert home.parent.parent == job.tree.parent
    assert sorted(place.name for place in job.tree.parent.iterdir()) == ["tree"]


@real
def test_a_self_test_that_notices_something_makes_it_unusable(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice._test(backend, spaces=False)
    plain = landlock.specification

    def wider(*arguments: object) -> dict[str, object]:
        found = plain(*arguments)  # type: ignore[arg-type]
        found["rules"] |= {"scoped": 0, "allowed": [*found["rules"]["allowed"], ("/", landlock.READ)]}
        return found

    monkeypatch.setattr(landlock, "specification", wider)
    with pytest.raises(SandboxUnavailable) as caught:
        choice._test(backend, spaces=False)
    assert "file of the host: succeeded" in caught.value.message


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_its_filter_lets_no_socket_through_but_pairs_of_streams(machine: str) -> None:
    code, arch = seccomp.program(machine, spaces=False), seccomp.ARCHITECTURES[machine]
    column = ("x86_64", "aarch64").index(machine)

    def judge(call: str, *arguments: int) -> int:
        number = {**seccomp.REFUSED, **seccomp.SHARED, **seccomp.FILTERED}[call][column]
        assert number is not None
        return _judge(code, arch, number, *arguments)

    for family in range(64):
        for kind in (1, 2, 3, 5):
            assert judge("socket", family, kind, 0) == _error("EAFNOSUPPORT")
    assert judge("socketpair", 1, 1 | 0o2000000, 0) == judge("socketpair", 1, 5, 0) == seccomp.ALLOW
    assert judge("socketpair", 1, 2, 0) == judge("socketpair", 1, 2 | 0o4000, 0) == _error("ESOCKTNOSUPPORT")
    assert judge("socketpair", 2, 1, 0) == _error("EAFNOSUPPORT")
    for call in seccomp.SHARED:
        assert judge(call) == _error("EPERM")
    steps = list(struct.iter_unpack("<HBBI", code))
    for place, (operation, if_true, if_false, _) in enumerate(steps):
        if operation in (0x15, 0x25, 0x45):
            assert place + 1 + max(if_true, if_false) < len(steps)


def test_only_what_a_weaker_level_refuses_is_blamed_on_it() -> None:
    assert set(PROMISES) == set(LEVELS)
    assert caused_by_isolation("C", b"x\nOSError: [Errno 97] Address family not supported by protocol\n")
    assert caused_by_isolation("C", b"assert 1 == 2\n") == ""
    for level in ("A", "B"):
        assert caused_by_isolation(level, b"Permission denied") == ""


def test_the_launcher_is_told_nothing_on_its_command_line(job: Job) -> None:
    """Command lines can be read by every user; what a policy passes in may be a secret."""
    with_secret = Job("j", ("true",), job.tree, job.mount_at, environment={"TOKEN": "s3cret"})
    asked = landlock.specification(with_secret, [], Path("/own"), None)
    assert asked["environment"]["TOKEN"] == "s3cret"
    assert "s3cret" not in json.dumps({name: value for name, value in asked.items() if name != "environment"})
    assert layout.HOME not in asked["environment"].values()


@pytest.mark.parametrize(
    ("code", "output", "met"),
    [
        (1, b"cp: error writing 'x': No space left on device", "scratch"),
        (1, b"Traceback\nMemoryError\n", "memory"),
        (153, b"", "file size"),
        (1, b"OSError: [Errno 24] Too many open files", "open files"),
        (2, b"sh: 0: Cannot fork", "processes"),
        (1, b"assert 1 == 2", ""),
        (None, b"", ""),
    ],
)
def test_a_limit_that_only_the_check_saw_is_named(code: int | None, output: bytes, met: str) -> None:
    assert limit_met(code, output) == met


COMETS = """
import ctypes, os, time
from safeai_git.sandbox import confine
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
for _ in range(5):
    told, tell = os.pipe()
    for _ in range(4):
        if os.fork() == 0:
            os.setsid()
            os.write(tell, b".")
            while True:
                if os.fork():
                    os._exit(0)
    for _ in range(4):
        os.read(told, 1)
    confine._end_all()
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        print("none is left")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="subreapers are Linux's")
def test_daemons_that_end_as_they_make_the_next_are_ended() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMETS], cwd=PROJECT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split("\n") == ["none is left"] * 5 + [""], done.stderr
