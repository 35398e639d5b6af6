"""Starts a launcher (bubblewrap, or ours) so that nothing of it can outlive us.

Bubblewrap ties itself and the sandbox's first process to its parent, but only in the course of its set-up; killed
meanwhile, we would leave one or the other behind (measured with 0.8). So a guard shares its process group, and ends the
group when a pipe from us closes, as it does when we die. And the command inside waits for a word from here, which it
gets once the first process is tied, and gives up when there is nobody left to say it. Our own launcher holds a leash
instead, and needs no guard.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from safeai_git.core.errors import SandboxUnavailable
from safeai_git.sandbox.identity import Identity

_GUARD = "read -r never; kill -9 -$$"
_GATE = 'echo up >&0; read -r go && exec "$@" </dev/null'


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
    """

    argv: Callable[[int], Sequence[str]]
    command: tuple[str, ...]
    environment: dict[str, str]
    descriptors: tuple[int, ...]
    identity: Identity | None
    stop: Callable[[], None] | None = None
    watched: tuple[Path, ...] = ()
    overlay: Path | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """What runs now, and our ends of its lines.

    Attributes:
        process: The launcher.
        guard: Leads its process group; a signal to the group reaches both. ``None`` for a launcher without one.
        output: What the command and the launcher print.
        status: What the launcher reports.
        line: ``up`` comes out of it when the command is ready to start, ``go`` lets it.
    """

    process: subprocess.Popen[bytes]
    guard: subprocess.Popen[bytes] | None
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
    output, their_output = _pipe(stack)
    status, their_status = _pipe(stack)
    line, their_line = socket.socketpair()
    stack.enter_context(line)
    identity = launch.identity
    uid, gid = (identity.uid, identity.gid) if identity else (None, None)
    groups: list[str | int] | None = [] if identity else None
    guard: subprocess.Popen[bytes] | None = None
    try:
        if launch.stop is None:
            guard = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD],
                env={},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,
                cwd="/",
                user=uid,
                group=gid,
                extra_groups=groups,
            )
        process = subprocess.Popen(
            [*launch.argv(their_status), "--", "/bin/sh", "-c", _GATE, "sh", *launch.command],
            env=launch.environment,
            stdin=their_line.fileno(),
            stdout=their_output,
            stderr=their_output,
            close_fds=True,
            pass_fds=(their_status, *launch.descriptors),
            process_group=0 if guard is None else guard.pid,
            cwd="/",
            umask=0o022,
            user=uid,
            group=gid,
            extra_groups=groups,
        )
    except BaseException as error:
        if guard is not None:
            _dismiss(guard)
        if not isinstance(error, OSError):
            raise
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
    if guard is not None:
        stack.callback(_dismiss, guard)
    return Started(process, guard, output, status, line)


def _dismiss(guard: subprocess.Popen[bytes]) -> None:
    with guard:  # closes its pipe and waits
        guard.kill()


def _pipe(stack: ExitStack) -> tuple[int, int]:
    ours, theirs = os.pipe()
    stack.callback(os.close, ours)
    return ours, theirs
