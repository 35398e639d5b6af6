"""Level C: Landlock, the system call filter and resource limits, put on by a launcher of our own.

For where no namespace can be had: pods without capabilities, machines that restrict user namespaces. Promises what
`port.Isolation` says of level C: no socket of any kind but pairs, no file beyond the system's and the tree, nothing
written but the tree, a home and a temporary folder, no signal and no abstract socket beyond the job, no further
privileges, and nothing left running. Does not promise: own process ids (names of files and the existence of processes
can be found out, not their content), a tree at the repository's own path, an own ``/tmp``, or a number of processes
that other programs of the same user do not share. Needs Landlock's ABI 6: before it, a job could signal its supervisor.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import marshal
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safeai_git.core.errors import SandboxUnavailable
from safeai_git.sandbox import layout, orphans, seccomp, supervise
from safeai_git.sandbox.identity import Identity
from safeai_git.sandbox.jobs import (
    check_caller,
    check_job,
    environment,
    give_tree,
    in_memory,
    resource_limits,
)
from safeai_git.sandbox.launch import Launch
from safeai_git.sandbox.port import Isolation, Job, Outcome
from safeai_git.sandbox.programs import find_program, sha256_of
from safeai_git.sandbox.rlimits import hard_limit
from safeai_git.sandbox.scratch import remove_tree
from safeai_git.sandbox.tree import hand_over

NAME = "landlock"
LEVEL = "C"
LEAST_ABI = 6
_EVERY_PYTHON = 2
"""The version of the format that all of them read; the launcher's may be another one than ours."""
CONFINE = Path(__file__).with_name("confine.py")
_HINT = "a kernel of 6.12 or newer with Landlock switched on (lsm=landlock,... among its boot parameters)"

# linux/landlock.h
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _IOCTL_DEV = 1, 2, 4, 8, 1 << 14, 1 << 15
_MAKE_CHAR, _MAKE_SOCK, _MAKE_BLOCK = 1 << 6, 1 << 9, 1 << 11
_CREATE_RULESET, _VERSION = 444, 1

FILES = (1 << 16) - 1
"""Every access to files that ABI 6 knows."""
NETWORK = 0b11
"""TCP: bind and connect. The filter refuses sockets anyway."""
SCOPED = 0b11
"""Abstract sockets and signals."""
READ = _EXECUTE | _READ_FILE | _READ_DIR
OWN = FILES & ~(_MAKE_CHAR | _MAKE_BLOCK | _IOCTL_DEV)
DEVICE = _READ_FILE | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_FROM_ETC = (*layout.PASSED_FROM_ETC, "passwd", "group", "nsswitch.conf", "hosts")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_FIGURES = (
    *(
        f"/proc/{name}"
        for name in ("cpuinfo", "meminfo", "stat", "version", "loadavg", "uptime", "filesystems")
    ),
    *(f"/proc/sys/kernel/{name}" for name in ("osrelease", "cap_last_cap", "pid_max", "random/uuid")),
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu",
)
"""Of the machine, not of a process: other processes' command lines stay out, and with them the job's own."""


def abi() -> int:
    """The kernel's version of Landlock.

    Raises:
        SandboxUnavailable: It has none, or it is switched off.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    found = int(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION))
    if found > 0:
        return found
    why = {
        errno.ENOSYS: "this kernel has no Landlock, or the container around this refuses it",
        errno.EOPNOTSUPP: "Landlock is switched off in this kernel",
    }.get(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    raise SandboxUnavailable(why, hint=_HINT)


@dataclass(frozen=True, slots=True)
class Installed:
    """What this backend consists of.

    Attributes:
        python: Runs the launcher.
        abi: Of the kernel.
        digest: SHA-256, hex, of the launcher.
        both_digests: SHA-256, hex, over launcher and interpreter.
    """

    python: Path
    abi: int
    digest: str
    both_digests: str


def installed() -> Installed:
    """Find the interpreter and ask the kernel.

    Raises:
        SandboxUnavailable: Landlock is missing or too old, or no interpreter can be trusted.
    """
    found = abi()
    if found < LEAST_ABI:
        raise SandboxUnavailable(f"Landlock's ABI is {found} here, {LEAST_ABI} is needed", hint=_HINT)
    python = _interpreter()
    digest = sha256_of(CONFINE)
    both = hashlib.sha256((digest + sha256_of(python)).encode()).hexdigest()
    return Installed(python, found, digest, both)


def _interpreter() -> Path:
    """The system's; otherwise the one that runs this, which is trusted already."""
    with suppress(SandboxUnavailable):
        return find_program("python3", install="")
    return Path(sys.executable).resolve()


class Landlock:
    """The backend.

    Args:
        programs: As `installed` found them.
        isolation: What the self-test found that it gives.
        identity: Who jobs run as outside; ``None`` for the caller.
    """

    keeps_tree = False

    def __init__(self, programs: Installed, isolation: Isolation, identity: Identity | None) -> None:
        self.isolation = isolation
        self.identity = identity
        self._programs = programs

    def run(self, job: Job, *, on_output: Callable[[bytes], None] | None = None) -> Outcome:
        """See `port.Backend.run`."""
        check_job(job)
        if job.network or any(job.prepared.values()):
            raise SandboxUnavailable(
                f"check {job.name} has a prepared environment, which level {LEVEL} cannot show",
                hint="'safeai-git doctor' says what keeps the stronger levels out",
            )
        identity = self.identity
        check_caller(identity)
        orphans.adopt()
        mounts = [*layout.toolchain_mounts(job, identity), *layout.policy_mounts(job, identity)]
        give_tree(job, identity)
        with ExitStack() as stack:
            own = _own_folder(job, identity, stack)
            leash, hold = os.pipe()
            stack.callback(os.close, leash)
            held = ExitStack()
            held.callback(os.close, hold)
            stack.push(held)
            asked = specification(job, mounts, own, identity)
            told = in_memory(marshal.dumps(asked, _EVERY_PYTHON), stack)

            def argv(status: int) -> Sequence[str]:
                source = CONFINE.read_text(encoding="utf-8")
                return (
                    str(self._programs.python),
                    "-I",
                    "-S",
                    "-c",
                    source,
                    *map(str, (told, status, leash)),
                )

            launch = Launch(
                argv,
                job.argv,
                {},
                (told, leash),
                identity,
                stop=held.close,
                watched=(own / "home", own / "tmp"),
                terminal=job.terminal,
            )
            try:
                return supervise.run(launch, job, on_output=on_output)
            except supervise.NotStarted as error:
                raise SandboxUnavailable(
                    f"the launcher could not confine the check, nothing was executed: {error.said or 'no reason given'}",
                    hint="'safeai-git doctor' shows what was tried",
                ) from error

    @staticmethod
    def policy_digest() -> str:
        """SHA-256, in hex, of what decides what a job may do: rules, filter and variables."""
        sample = Job("sample", ("true",), Path("/tree"), Path("/repository"))
        decides = (
            json.dumps(_rules(sample, [], Path("/own")), sort_keys=True),
            seccomp.program(platform.machine(), spaces=False).hex(),
            *(f"{name}={value}" for name, value in environment(sample).items()),
        )
        return hashlib.sha256("\0".join(decides).encode()).hexdigest()


def _own_folder(job: Job, identity: Identity | None, stack: ExitStack) -> Path:
    """The job's home and temporary folder, beside its tree, so that whoever removes the one removes the other."""
    own = Path(tempfile.mkdtemp(prefix="own-", dir=job.tree.parent))
    stack.callback(remove_tree, own)
    for name in ("home", "tmp"):
        (own / name).mkdir(mode=0o700)
    if identity is not None:
        own.chmod(0o711)
        for name in ("home", "tmp"):
            hand_over(own / name, identity.uid, identity.gid)
    return own


def specification(
    job: Job, mounts: Sequence[layout.Mount], own: Path, identity: Identity | None
) -> dict[str, Any]:
    """What the launcher is told.

    Args:
        job: What to run.
        mounts: What may be read besides the system.
        own: The folder with the job's home and temporary folder.
        identity: Who it runs as.
    """
    limits = resource_limits(job.limits)
    # The kernel counts all processes of this user, so the limit is for those that there are already, too.
    number = hard_limit("RLIMIT_NPROC", _processes_of(identity) + job.limits.processes)
    limits["RLIMIT_NPROC"] = (number, number)
    variables = environment(job, [layout.Mount(one.source, one.source) for one in mounts])
    return {
        "folder": str(job.tree),
        "limits": limits,
        "rules": _rules(job, mounts, own),
        "filter": seccomp.program(platform.machine(), spaces=False).hex(),
        "environment": {
            **variables,
            "HOME": str(own / "home"),
            "TMPDIR": str(own / "tmp"),
            **job.environment,
        },
    }


def _rules(job: Job, mounts: Sequence[layout.Mount], own: Path) -> dict[str, Any]:
    allowed = [
        *((path, READ) for path in _SYSTEM),
        *((os.path.realpath(f"/etc/{name}"), _READ_FILE | _READ_DIR) for name in _FROM_ETC),
        *((path, _READ_FILE | _READ_DIR) for path in _FIGURES),
        *((path, DEVICE) for path in _DEVICES),
        *((str(mount.source), READ) for mount in mounts),
        *((str(folder), OWN) for folder in (job.tree, own / "home", own / "tmp")),
    ]
    return {
        "files": FILES,
        "network": NETWORK,
        "scoped": SCOPED,
        "allowed": [(path, access if _is_folder(path) else access & _OF_FILES) for path, access in allowed],
    }


_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
"""What can be allowed of something that is no folder (landlock(7))."""


def _is_folder(path: str) -> bool:
    return not Path(path).exists() or Path(path).is_dir()


def _processes_of(identity: Identity | None) -> int:
    """Threads that the user has already, as far as they can be seen from here."""
    uid = os.getuid() if identity is None else identity.uid
    return sum(1 for owner in _owners_of_threads() if owner == uid)


def _owners_of_threads() -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            owner = process.stat().st_uid
            yield from (owner for _ in (process / "task").iterdir())
