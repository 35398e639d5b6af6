"""Runs of their own: what ends at a limit, what would outlive its run, and what a run could do to the next.

Each names the limit that must stop it, or how it must end; then nothing of it may be left. The control is the same
program with a limit that is wide enough, which must end by itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safeai_git.core.display import display
from safeai_git.sandbox.port import MIB, Backend, Job, Limits, Outcome
from safeai_git.sandbox.scratch import remove_tree, scratch_directory

PYTHON = "/usr/bin/python3"
WIDE = Limits(
    wall_seconds=60,
    cpu_seconds=50,
    memory_bytes=2048 * MIB,
    processes=400,
    file_bytes=256 * MIB,
    open_files=512,
    output_bytes=16 * MIB,
    scratch_bytes=1024 * MIB,
)
_ERRORS = "import errno, os, signal, sys, time\n"


@dataclass(frozen=True, slots=True)
class Bound:
    """A program that a limit must stop.

    Attributes:
        row: In the matrix.
        program: Python; prints what it meets.
        narrow: The changed limits.
        control: How the same ends without them; empty where it would not end.
    """

    row: int
    program: str
    narrow: dict[str, Any]
    control: str = "exit code 0"


def _write(place: str, size: int) -> str:
    return f"""
one = os.open(os.path.join(os.path.expandvars({place!r}), "large"), os.O_CREAT | os.O_WRONLY)
try:
    for _ in range({size}):
        os.write(one, b"x" * 2**20)
except OSError as error:
    print(errno.errorcode[error.errno])
    sys.exit(0)
time.sleep(2)
"""


_FLOOD = """
os.chdir(os.path.expandvars({place!r}))
for number in range({number}):
    os.close(os.open(str(number), os.O_CREAT))
time.sleep(2)
"""

BOUNDS: dict[str, Bound] = {
    "fork bomb": Bound(
        21,
        """
children = []
try:
    for _ in range(150):
        child = os.fork()
        if child == 0:
            time.sleep(60)
        children.append(child)
except OSError as error:
    print(errno.errorcode[error.errno])
for child in children:
    os.kill(child, 9)
""",
        {"processes": 60},
    ),
    "fork bomb without end": Bound(
        21,
        "while True:\n    try:\n        os.fork()\n    except OSError:\n        pass\n",
        {"processes": 60, "wall_seconds": 0.7},
        "",
    ),
    "memory of one process": Bound(
        22,
        "try:\n    x = bytearray(2**28)\nexcept MemoryError:\n    print('MemoryError')\n",
        {"memory_bytes": 128 * MIB},
    ),
    "memory of all processes": Bound(
        23,
        """
for _ in range(4):
    if os.fork() == 0:
        x = bytearray(os.urandom(1024)) * (60 * 1024)
        time.sleep(3)
        os._exit(0)
time.sleep(4)
""",
        {"memory_bytes": 150 * MIB},
    ),
    "disk: the tree": Bound(24, _write(".", 48), {"scratch_bytes": 16 * MIB}),
    "disk: /tmp": Bound(24, _write("$TMPDIR", 48), {"scratch_bytes": 16 * MIB}),
    "disk: the home": Bound(24, _write("$HOME", 48), {"scratch_bytes": 16 * MIB}),
    "disk: shared memory": Bound(
        24,
        "try:\n    os.chdir('/dev/shm')\n    os.open('x', os.O_CREAT)\nexcept OSError as error:\n"
        "    print(errno.errorcode[error.errno])\n    sys.exit(0)\n" + _write(".", 48),
        {"scratch_bytes": 16 * MIB},
    ),
    "size of a file": Bound(24, _write(".", 48), {"file_bytes": 16 * MIB}),
    "100,000 files in the tree": Bound(
        25, _FLOOD.format(place=".", number=100_000), {"scratch_files": 20_000}, ""
    ),
    "files in /tmp": Bound(25, _FLOOD.format(place="$TMPDIR", number=6_000), {"scratch_files": 3_000}),
    "endless loop, wall clock": Bound(26, "while True:\n    pass\n", {"wall_seconds": 0.5}, ""),
    "endless loop, processor": Bound(26, "while True:\n    pass\n", {"cpu_seconds": 1}, ""),
    "SIGTERM ignored": Bound(
        26, "signal.signal(15, signal.SIG_IGN); time.sleep(2.5)\n", {"wall_seconds": 0.5}
    ),
    "SIGSTOP of itself": Bound(26, "os.kill(os.getpid(), signal.SIGSTOP)\n", {"wall_seconds": 0.5}, ""),
    "output flood": Bound(
        27, "for _ in range(64):\n    os.write(1, (b'x' * 63 + b'\\n') * 1024)\n", {"output_bytes": MIB}
    ),
    "output without a line's end": Bound(
        27, "for _ in range(64):\n    os.write(2, b'x' * 65536)\n", {"output_bytes": MIB}
    ),
    "open files": Bound(
        45,
        "try:\n    [os.open('/dev/null', 0) for _ in range(200)]\nexcept OSError as error:\n"
        "    print(errno.errorcode[error.errno])\n",
        {"open_files": 64},
    ),
}

_BACKGROUND = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(15, signal.SIG_IGN)
        {quiet}
        time.sleep(600)
    os._exit(0)
print("started")
"""
_RESPAWN = """
def respawn():
    signal.signal(15, signal.SIG_IGN)
    os.setsid()
    while True:
        try:
            child = os.fork()
        except OSError:
            continue
        if child:
            time.sleep(0.001)
            os._exit(0)
        os.setsid()
for _ in range(20):
    try:
        if os.fork() == 0:
            respawn()
    except OSError:
        break
time.sleep(0.1)
print("started")
"""
_FORGE = """
for number in range(3, 256):
    try:
        os.write(number, b'{ "exit-code": 0 }\\n')
    except OSError:
        pass
os.write(1, b'{ "exit-code": 0 }\\n')
for pid in (1, os.getppid()):
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
os._exit(7)
"""
_REMAINS = """
for place in (".", os.environ["HOME"], os.environ["TMPDIR"], "/dev/shm"):
    try:
        print(place.rpartition("/")[2], sorted(os.listdir(place)))
        os.close(os.open(os.path.join(place, "left"), os.O_CREAT))
    except OSError:
        pass
"""
_GIT = """
os.makedirs("vendor/x/.git/hooks")
os.mkdir(".git")
for place in (".git", "vendor/x/.git"):
    for name in ("objects", "refs"):
        os.mkdir(os.path.join(place, name))
    open(os.path.join(place, "HEAD"), "w").write("ref: refs/heads/main\\n")
    open(os.path.join(place, "config"), "w").write(
        "[core]\\nrepositoryformatversion = 0\\nfsmonitor = touch FILE; false\\n"
        "[filter \\"x\\"]\\nclean = touch FILE; cat\\n".replace("FILE", sys.argv[1])
    )
"""
_ESCAPES = r"os.write(1, b'\x1b]0;title\x07\x1b[2J\x9b31m\x00\r\xe2\x80\xae' + b'\n')" + "\n"


class Runner:
    """Runs programs in one backend and looks for what they left."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def __call__(
        self, program: str, limits: Limits = WIDE, *arguments: str, place: Path | None = None
    ) -> Outcome:
        with scratch_directory(room=256 * MIB) if place is None else _given(place) as scratch:
            tree = scratch / "tree"
            tree.mkdir(mode=0o700)
            argv = (PYTHON, "-I", "-S", "-c", _ERRORS + program, *arguments)
            return self.backend.run(Job("probe", argv, tree, Path("/srv/probes"), limits=limits))

    def ended(self, program: str, limits: Limits = WIDE) -> str:
        """How it ended, what it said, and what is left of it."""
        marker = f"probe-{uuid.uuid4().hex}"
        outcome = self(program, limits, marker)
        said = outcome.output[:40].decode("ascii", "replace").strip() if outcome.output_bytes < 64 else ""
        how = f"limit {outcome.limit_hit}" if outcome.limit_hit else f"exit code {outcome.exit_code}"
        left = processes_with(marker)
        _kill(left)
        return ", ".join(filter(None, [said, how, f"{len(left)} processes left" if left else ""]))


@contextmanager
def _given(place: Path) -> Iterator[Path]:
    yield place


def processes_with(marker: str) -> list[int]:
    """Processes of the host whose command line holds it, this one aside."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (place / "cmdline").read_bytes() and int(place.name) != os.getpid():
                found.append(int(place.name))
        except OSError:
            continue
    return found


def _twice(run: Runner) -> str:
    first, second = run(_REMAINS), run(_REMAINS)
    return "nothing seen" if first.output == second.output and first.exit_code == 0 else "seen"


def _together(run: Runner) -> str:
    """Two that each make as many processes as they may; the other's must not count."""
    if run.backend.isolation.level == "C":
        return "shared limits"
    program = """
made = 0
try:
    for _ in range(200):
        if os.fork() == 0:
            time.sleep(60)
        made += 1
except OSError:
    pass
time.sleep(0.7)
print(made)
"""
    found: list[int] = []
    limits = replace(WIDE, processes=50)

    def one() -> None:
        found.append(int(run(program, limits).output or b"0"))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return "own limits" if min(found) >= 40 and max(found) <= 50 else f"{sorted(found)}"


@contextmanager
def _supervised(run: Runner) -> Iterator[tuple[int, list[int]]]:
    """A process that runs a sandbox with a daemon in it, and the processes in there as this side numbers them."""
    with scratch_directory(room=MIB) as scratch:
        tree = scratch / "tree"
        tree.mkdir(mode=0o700)
        marker = f"probe-{uuid.uuid4().hex}"
        out, into = os.pipe()
        # A fork, so that a guard that is missing here is missing there too.
        supervisor = os.fork()
        if supervisor == 0:
            daemon = "(setsid sh -c 'sleep 600; :' $0 &) ; echo up; sleep 600"
            command = ("/bin/sh", "-c", daemon, marker)
            job = Job("probe", command, tree, Path("/srv/probes"))
            with suppress(BaseException):
                run.backend.run(job, on_output=lambda _piece: os.write(into, b"up") and None)
            os._exit(0)
        os.close(into)
        try:
            os.read(out, 2)
            yield supervisor, processes_with(marker)
        finally:
            os.close(out)
            with suppress(ProcessLookupError):
                os.kill(supervisor, signal.SIGKILL)
            os.waitpid(supervisor, 0)


def _left(processes: list[int], seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(map(_alive, processes)):
        time.sleep(0.01)
    left = [pid for pid in processes if _alive(pid)]
    _kill(left)
    return f"{len(left)} left" if processes else "nothing was running"


def _killed_supervisor(run: Runner) -> str:
    """The process that runs the sandbox is killed while a check with a daemon runs."""
    with _supervised(run) as (supervisor, sleeping):
        os.kill(supervisor, signal.SIGKILL)
        return _left(sleeping, 10)


def _killed_bubblewrap(run: Runner) -> str:
    """The outer process of the sandbox ends while its supervisor cannot look."""
    if run.backend.isolation.level == "C":
        return "0 left"  # there is no outer process: its part is the supervisor's, killed above
    with _supervised(run) as (supervisor, sleeping):
        os.kill(supervisor, signal.SIGSTOP)
        outer = [
            int(one) for one in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
        ]
        for pid in outer:
            if Path(f"/proc/{pid}/comm").read_text().strip() == "bwrap":
                os.kill(pid, signal.SIGKILL)
        return _left(sleeping, 3)


def _kill(processes: list[int]) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def _hostile_environment(run: Runner) -> str:
    """Programs and variables that the tool's own environment names."""
    with tempfile.TemporaryDirectory(prefix="safeai-probes-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o777)
        for program in ("bwrap", "prlimit", "sh", "python3"):
            (folder / program).write_text(f"#!/bin/sh\n: >{folder}/ran\n")
            (folder / program).chmod(0o755)
        hostile = {
            "PATH": f"{folder}:.",
            "BASH_ENV": str(folder / "sh"),
            "ENV": str(folder / "sh"),
            "PYTHONPATH": str(folder),
            "PYTHONSTARTUP": str(folder / "python3"),
            "GIT_CONFIG_GLOBAL": str(folder / "sh"),
            "LD_LIBRARY_PATH": str(folder),
        }
        before = dict(os.environ)
        os.environ.update(hostile)
        try:
            outcome = run(
                f"print(sorted(set(os.environ) & {set(hostile) - {'PATH'}}), {name!r} in os.environ['PATH'])\n"
            )
            ran = (folder / "ran").exists()
            subprocess.run(["bwrap"], check=True)
            control = (folder / "ran").exists()
        finally:
            os.environ.clear()
            os.environ.update(before)
    if not control:
        return "no control"
    return "ignored" if not ran and outcome.output == b"[] False\n" else "used"


def _planted_git(run: Runner) -> str:
    """A repository that the check makes in its tree: nothing of ours may ask git about it."""
    with scratch_directory(room=MIB) as scratch, tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        mark = Path(name) / "ran"
        Path(name).chmod(0o777)
        outcome = run(_GIT, WIDE, str(mark), place=scratch)
        ran = mark.exists()
        if run.backend.keeps_tree:  # it reaches nobody outside
            return "executed" if ran or (scratch / "tree/.git").exists() else "nothing executed"
        command = ["git", "-c", "safe.directory=*", "-C", str(scratch / "tree"), "status"]
        environment = {"PATH": os.defpath, "GIT_CONFIG_NOSYSTEM": "1", "HOME": name}
        subprocess.run(command, env=environment, capture_output=True)
        control = mark.exists()
        mark.unlink(missing_ok=True)
        remove_tree(scratch / "tree")
        ran = ran or mark.exists() or outcome.exit_code != 0
    return "no control" if not control else "executed" if ran else "nothing executed"


def _escapes(run: Runner) -> str:
    """What a terminal would obey arrives in the outcome, and not in what is shown of it."""
    output = run(_ESCAPES).output
    if b"\x1b]0;" not in output:
        return "no control"
    shown = display(output.rstrip(b"\n"))
    return "escaped" if shown.isprintable() else "shown raw"


def _terminal(run: Runner) -> str:
    """Its standard input is nothing, its output no terminal, and there is none to open."""
    program = "print([os.isatty(one) for one in range(3)], os.read(0, 1))\n"
    return "no terminal" if run(program).output == b"[False, False, False] b''\n" else "a terminal"


def _exit_codes(run: Runner) -> str:
    found = [run(f"os._exit({code})").exit_code for code in (0, 3)]
    found.append(run("os.kill(os.getpid(), 11)").exit_code)
    return " ".join(map(str, found))


def _signals(run: Runner) -> str:
    """Signals that an interpreter ignores must not be ignored by what it starts."""
    found = []
    for name in ("PIPE", "XFSZ"):
        with scratch_directory(room=MIB) as scratch:
            (scratch / "tree").mkdir(mode=0o700)
            argv = ("/bin/sh", "-c", f"kill -{name} $$; exit 0")
            found.append(run.backend.run(Job("probe", argv, scratch / "tree", Path("/srv/probes"))).exit_code)
    return " ".join(map(str, found))


SPECIAL: dict[str, tuple[int, Callable[[Runner], str]]] = {
    "git repositories planted in the tree": (16, _planted_git),
    "terminal escapes in the output": (27, _escapes),
    "a terminal": (33, _terminal),
    "a second run": (44, _twice),
    "a killed supervisor": (46, _killed_supervisor),
    "a killed bubblewrap": (46, _killed_bubblewrap),
    "two at once": (47, _together),
    "exit codes, wanted": (43, _exit_codes),
    "signals as usual, wanted": (43, _signals),
    "a hostile environment of the tool": (49, _hostile_environment),
}
PLAIN: dict[str, tuple[int, str]] = {
    "background process": (28, _BACKGROUND.format(quiet="os.close(1); os.close(2)")),
    "background process that holds the output": (28, _BACKGROUND.format(quiet="pass")),
    "processes that respawn": (29, _RESPAWN),
    "a forged result": (43, _FORGE),
    "a signal to everybody": (32, "try:\n    os.kill(-1, 9)\nexcept OSError:\n    pass\nos._exit(5)\n"),
}


def run_all(
    backend: Backend, *, control: bool, only: tuple[str, ...] = ()
) -> tuple[dict[str, str], dict[str, str]]:
    """What came of each run, and of the controls."""
    run = Runner(backend)
    found: dict[str, str] = {}
    controls: dict[str, str] = {}
    for name, bound in BOUNDS.items():
        if only and name not in only:
            continue
        found[name] = run.ended(bound.program, replace(WIDE, **bound.narrow))
        if control and bound.control:
            controls[name] = run.ended(bound.program)
    for name, (_, program) in PLAIN.items():
        if not only or name in only:
            found[name] = run.ended(program)
    for name, (_, special) in SPECIAL.items():
        if not only or name in only:
            found[name] = special(run)
    return found, controls
