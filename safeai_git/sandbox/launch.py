"""Starts a launcher (bubblewrap, or ours) so that nothing of it can outlive us.

Bubblewrap ties itself and the sandbox's first process to its parent, but only in the course of its set-up; killed
meanwhile, we would leave one or the other behind (measured with 0.8). So a guard shares its process group, and ends the
group when a pipe from us closes, as it does when we die. A shell makes the guard and then becomes the launcher: that
costs a third of starting the guard by itself. And the command inside waits for a word from here, which it gets once the
first process is tied, and gives up when there is nobody left to say it. Our own launcher holds a leash instead, and
needs no guard.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from safeai_git.core.errors import SandboxUnavailable
from safeai_git.sandbox import orphans
from safeai_git.sandbox.identity import Identity
from safeai_git.sandbox.programs import find_program

if sys.platform == "linux":
    import fcntl

_GUARD = (
    "{restore}exec {spare}<&0; /bin/sh -c 'read -r never; kill -9 -$0' $$ <&{spare} >/dev/null 2>&1 & "
    '{stage}exec "$@" <&1 >&2 {spare}<&-'
)
"""Started with the leash as input, the command's line as output, and its output as error output: shells name only
descriptors of one digit. What runs in the background would read nothing without the detour (POSIX, "Asynchronous
Lists"). It is a shell of its own so that its command line is not that of the launcher."""
_GATE = 'echo up >&0 && read -r go && exec "$@" </dev/null'
_GATE_TO_TERMINAL = 'echo up >&0 && read -r go && exec "$@" <&1'
_BUILT_IN = {
    "RLIMIT_CORE": ("c", 512),
    "RLIMIT_NPROC": ("p", 1),
    "RLIMIT_FSIZE": ("f", 512),
    "RLIMIT_NOFILE": ("n", 1),
    "RLIMIT_DATA": ("d", 1024),
    "RLIMIT_CPU": ("t", 1),
}
"""The options of dash's ``ulimit``, and the bytes or pieces that their unit has (dash(1))."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start the process.

    Attributes:
        argv: From the descriptor of the status pipe to the launcher's part of the command line.
        command: What it runs inside.
        environment: All of it.
        descriptors: Others that it inherits.
        identity: Who it starts as; ``None`` for the caller.
        stop: Makes a launcher that ends everything by itself do so; ``None`` for one that needs a guard.
        watched: Folders, besides the tree, that count against what a job may write.
        overlay: Where the job sees a tree of its own that the kernel bounds; ``None`` where it writes into the given.
        terminal: A terminal of its own, for a command that people talk to: our end, and the path of the other.
        limits: What the gate's shell sets, soft and hard, by the names of `resource`; see `sets_limits`.
        within: What starts the shell that makes the guard, in namespaces that the launcher is to find.
        stage: Lines that this shell executes before it becomes the launcher, which it does not if one of them leaves it.
    """

    argv: Callable[[int], Sequence[str]]
    command: tuple[str, ...]
    environment: dict[str, str]
    descriptors: tuple[int, ...]
    identity: Identity | None
    stop: Callable[[], None] | None = None
    watched: tuple[Path, ...] = ()
    overlay: Path | None = None
    terminal: tuple[int, str] | None = None
    limits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    within: tuple[str, ...] = ()
    stage: str = ""


class Guard:
    """Ends the launcher's process group, its own, when its leash is dropped; by us or because we are gone."""

    def __init__(self, launcher: subprocess.Popen[bytes], leash: int) -> None:
        self._launcher = launcher
        self._leash: int | None = leash

    def dismiss(self) -> None:
        """End it, and where the launcher is gone already wait for that.

        What the launcher had begun and left behind, when it was stopped in its set-up, is in the group too.
        """
        if self._leash is not None:
            gone = self._launcher.returncode is not None
            if gone:  # sooner than by the leash; until it is waited for, the group's number is its own
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._launcher.pid, signal.SIGKILL)
            os.close(self._leash)
            self._leash = None
            if gone:
                with suppress(ChildProcessError):  # none is left, or somebody else adopted it
                    while True:
                        os.waitpid(-self._launcher.pid, 0)


@dataclass(frozen=True, slots=True)
class Started:
    """What runs now, and our ends of its lines.

    Attributes:
        process: The launcher, which leads its process group.
        guard: ``None`` for a launcher without one.
        output: What the command and the launcher print.
        status: What the launcher reports.
        line: ``up`` comes out of it when the command is ready to start, ``go`` lets it.
    """

    process: subprocess.Popen[bytes]
    guard: Guard | None
    output: int
    status: int
    line: socket.socket


def start(launch: Launch, stack: ExitStack) -> Started:
    """Start it; the command itself waits for ``go``.

    Args:
        launch: What to start.
        stack: Gets whatever is to be closed, and the end of the guard.

    Raises:
        SandboxUnavailable: It could not be started.
    """
    output, their_output = _pipe(stack) if launch.terminal is None else _ends(launch.terminal, stack)
    gate = _limiting(launch.limits) + (_GATE if launch.terminal is None else _GATE_TO_TERMINAL)
    status, their_status = _pipe(stack)
    line, their_line = socket.socketpair()
    stack.enter_context(line)
    identity = launch.identity
    command = [*launch.argv(their_status), "--", "/bin/sh", "-c", gate, "sh", *launch.command]
    passed = (their_status, *launch.descriptors)
    try:
        if launch.stop is None:
            guard, process = _guarded(launch, command, passed, their_line.fileno(), their_output, stack)
        else:
            guard = None
            process = _popen(
                command,
                launch,
                passed,
                identity,
                stdin=their_line.fileno(),
                stdout=their_output,
                stderr=their_output,
            )
    except OSError as error:
        raise SandboxUnavailable(
            f"the sandbox could not be started: {error}",
            hint="run safeai-git as an ordinary user"
            if identity
            else "'safeai-git doctor' shows what is missing",
        ) from error
    finally:
        os.close(their_output)
        os.close(their_status)
        their_line.close()
    return Started(process, guard, output, status, line)


def sets_limits(shell: Path = Path("/bin/sh")) -> bool:
    """Whether the gate's shell can set all limits by itself, which saves starting a program: dash can."""
    return shell.resolve().name == "dash"


def _limiting(limits: Mapping[str, tuple[int, int]]) -> str:
    """Without one of its limits, a command is not announced, and so never started."""
    found = ""
    for name, both in limits.items():
        option, unit = _BUILT_IN[name]
        soft, hard = (one // unit for one in both)
        found += f"ulimit -S{option} {soft} && ulimit -H{option} {hard} && "
    return found


def _guarded(
    launch: Launch, command: list[str], passed: tuple[int, ...], line: int, output: int, stack: ExitStack
) -> tuple[Guard, subprocess.Popen[bytes]]:
    orphans.adopt()  # the guard is a child of the launcher, and outlives it
    held, leash = os.pipe()
    try:
        spare = next(number for number in range(3, 10) if number not in passed)
        drop, identity = _dropping(launch.identity)
        # Each of these programs would open a dozen files of its locale before it does anything.
        plain = {} if "LC_ALL" in launch.environment else {"LC_ALL": "C"}
        restore = "unset LC_ALL; " if plain else ""
        shell = _GUARD.format(restore=restore, spare=spare, stage=launch.stage)
        command = [*drop, *launch.within, "/bin/sh", "-c", shell, "sh", *command]
        launch = replace(launch, environment=launch.environment | plain)
        process = _popen(command, launch, passed, identity, stdin=held, stdout=line, stderr=output)
    except BaseException:
        os.close(leash)
        raise
    finally:
        os.close(held)
    guard = Guard(process, leash)
    stack.callback(guard.dismiss)
    return guard, process


def _dropping(identity: Identity | None) -> tuple[list[str], Identity | None]:
    """How to become somebody: by a program where there is it, else by Python, which must be copied for that."""
    if identity is not None:
        with suppress(SandboxUnavailable):
            setpriv = find_program("setpriv", install="")
            numbers = ["--reuid", str(identity.uid), "--regid", str(identity.gid)]
            return [str(setpriv), *numbers, "--clear-groups", "--"], None
    return [], identity


def _popen(
    command: list[str],
    launch: Launch,
    passed: tuple[int, ...],
    identity: Identity | None,
    *,
    stdin: int,
    stdout: int,
    stderr: int,
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        env=launch.environment,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        close_fds=True,
        pass_fds=passed,
        process_group=0,
        cwd="/",
        umask=0o022,
        user=identity.uid if identity else None,
        group=identity.gid if identity else None,
        extra_groups=[] if identity else None,
    )


def _ends(terminal: tuple[int, str], stack: ExitStack) -> tuple[int, int]:
    ours = os.dup(terminal[0])
    stack.callback(os.close, ours)
    return ours, os.open(terminal[1], os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def _pipe(stack: ExitStack) -> tuple[int, int]:
    ours, theirs = os.pipe()
    stack.callback(os.close, ours)
    try:
        return ours, out_of_the_way(theirs)
    finally:
        os.close(theirs)


def out_of_the_way(descriptor: int) -> int:
    """A copy with two digits, for what a shell passes on and must not touch."""
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
