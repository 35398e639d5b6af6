"""Ends what is left of a check whose launcher of ours was ended by somebody else, the kernel for want of memory say.

As the nearest subreaper (prctl(2)), this process becomes the parent of what the launcher leaves behind. Such a process
is told from this process's other children by its system call filter, which no check can take off.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_SET_CHILD_SUBREAPER = 36


def adopt() -> None:
    """Become the parent of orphans, for as long as this process lives."""
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0)


def filters(pid: int) -> int:
    """How many filters a process has; where the kernel does not count them (before 5.9), one for any but ourselves.

    Raises:
        OSError: There is no such process.
    """
    lines = Path("/proc", str(pid), "status").read_text(encoding="utf-8", errors="replace").splitlines()
    status = dict(line.split(":\t", 1) for line in lines if line.startswith("Seccomp"))
    if "Seccomp_filters" in status:
        return int(status["Seccomp_filters"])
    return int(status.get("Seccomp") == "2" and pid != os.getpid())


def reap(ended: Iterable[int]) -> None:
    """Let go of processes that have ended, by their descriptors, where they have become children of this one.

    A launcher that ends before it has waited for its own children leaves them, and each keeps its number.
    """
    for process in ended:
        with suppress(ChildProcessError):  # its own parent did, or somebody else adopted it
            os.waitid(os.P_PIDFD, process, os.WEXITED | os.WNOHANG)


def end_adopted(deadline: float) -> bool:
    """Kill confined children until there is none; whether that was reached in time (monotonic clock)."""
    ours = filters(os.getpid())
    while found := [pid for pid in _children() if is_confined(pid, ours)]:
        if time.monotonic() > deadline:
            return False
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in found:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
    return True


def is_confined(pid: int, ours: int) -> bool:
    """Whether a process has more filters than we have; not if it is gone."""
    with suppress(OSError):
        return filters(pid) > ours
    return False


def _children() -> list[int]:
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            found += map(int, (task / "children").read_bytes().split())
    return found
