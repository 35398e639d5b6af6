"""Level B: bubblewrap in one stage, with the system call filter and limits set inside.

Promises what `port.Isolation` says of level B: own mount, process, network, IPC, host name and user namespaces, no
capabilities, no further privileges, a root that holds what `layout` lists, and never root's id outside. The disk is
watched, not bounded by the kernel. Nothing secret is on the command line, which every local user can read, nor in
bubblewrap's own environment, which the job can (``--clearenv`` would leave it there, bubblewrap#725).
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from safeai_git.core.errors import SandboxUnavailable
from safeai_git.sandbox import layout, seccomp, supervise
from safeai_git.sandbox.causes import explain
from safeai_git.sandbox.identity import Identity
from safeai_git.sandbox.launch import Launch
from safeai_git.sandbox.port import Isolation, Job, Limits, Outcome
from safeai_git.sandbox.programs import find_program, sha256_of
from safeai_git.sandbox.rlimits import hard_limit
from safeai_git.sandbox.tree import hand_over

NAME = "bubblewrap"
LEVEL = "B"
INSTALL = "sudo apt-get install -y bubblewrap (Debian, Ubuntu), sudo dnf install bubblewrap, or sudo apk add bubblewrap"
_INSTALL_PRLIMIT = "install util-linux"

_NAMESPACES = ("--unshare-user", "--unshare-all", "--uid", str(layout.USER_ID), "--gid", str(layout.USER_ID))
_CONFINEMENT = ("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "sandbox")
_NO_FURTHER_NAMESPACES = "--disable-userns"

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_REACHES_BUBBLEWRAP = ("LD_", "GLIBC_", "MALLOC_", "GCONV_PATH", "LOCPATH", "GETCONF_DIR")


@dataclass(frozen=True, slots=True)
class Installed:
    """The programs that this backend consists of.

    Attributes:
        bubblewrap, prlimit: Real paths.
        digest: SHA-256 of the former, in hex.
        both_digests: SHA-256 over both programs, in hex.
    """

    bubblewrap: Path
    prlimit: Path
    digest: str
    both_digests: str


def installed() -> Installed:
    """Find the programs.

    Raises:
        SandboxUnavailable: One is missing or not trusted.
    """
    bubblewrap = find_program("bwrap", install=INSTALL)
    prlimit = find_program("prlimit", install=_INSTALL_PRLIMIT)
    digest = sha256_of(bubblewrap)
    return Installed(
        bubblewrap, prlimit, digest, hashlib.sha256((digest + sha256_of(prlimit)).encode()).hexdigest()
    )


class Bubblewrap:
    """The backend.

    Args:
        programs: As `installed` found them.
        isolation: What the self-test found that it gives.
        identity: Who jobs run as outside; ``None`` for the caller.
        no_further_namespaces: Let bubblewrap turn user namespaces off inside. The filter refuses them in any case;
            some machines (AppArmor profiles, old versions) do not let bubblewrap do it too.
    """

    def __init__(
        self,
        programs: Installed,
        isolation: Isolation,
        identity: Identity | None,
        *,
        no_further_namespaces: bool = True,
    ) -> None:
        self.isolation = isolation
        self.identity = identity
        self._programs = programs
        self._no_further_namespaces = no_further_namespaces

    def run(self, job: Job, *, on_output: Callable[[bytes], None] | None = None) -> Outcome:
        """See `port.Backend.run`."""
        _check_job(job)
        layout.check_mount_point(job)
        identity = self.identity
        if identity is None and 0 in os.getresuid():
            raise SandboxUnavailable(
                "root runs no check as itself", hint="run safeai-git as an ordinary user"
            )
        mounts = [*layout.toolchain_mounts(job, identity), *layout.policy_mounts(job, identity)]
        if identity is not None:
            if closed := layout.closed_folder(job.tree.resolve()):
                raise SandboxUnavailable(
                    f"the user that root runs checks as cannot enter {closed}",
                    hint="put the tree into a folder that others may pass (mode 0711)",
                )
            hand_over(job.tree, identity.uid, identity.gid)
        with ExitStack() as stack:
            own_files = {
                target: _in_memory(content.encode("ascii"), stack)
                for target, content in layout.OWN_FILES.items()
            }
            bpf = _in_memory(seccomp.program(platform.machine()), stack)
            tail = [*layout.tree_arguments(job, mounts), *self._confinement(bpf)]

            def argv(status: int) -> Sequence[str]:
                return (
                    str(self._programs.bubblewrap),
                    *layout.root_arguments(job.limits, own_files),
                    *tail,
                    *("--json-status-fd", str(status)),
                )

            launch = Launch(
                argv,
                (str(self._programs.prlimit), *prlimit_arguments(job.limits), "--", *job.argv),
                environment(job, mounts),
                (*own_files.values(), bpf),
                identity,
            )
            try:
                return supervise.run(launch, job, on_output=on_output)
            except supervise.NotStarted as error:
                raise explain(error.said) from error

    @staticmethod
    def policy_digest() -> str:
        """SHA-256, in hex, of what decides what a job may do: mounts, namespaces, filter and variables."""
        sample = Job("sample", ("true",), Path("/tree"), Path("/repository"))
        decides = (
            seccomp.program(platform.machine()).hex(),
            *layout.root_arguments(sample.limits, dict.fromkeys(layout.OWN_FILES, 0)),
            *layout.OWN_FILES.values(),
            *layout.tree_arguments(sample, []),
            *(*_NAMESPACES, _NO_FURTHER_NAMESPACES, *_CONFINEMENT),
            *(f"{name}={value}" for name, value in environment(sample).items()),
        )
        return hashlib.sha256("\0".join(decides).encode()).hexdigest()

    def _confinement(self, bpf: int) -> Iterator[str]:
        yield from _NAMESPACES
        if self._no_further_namespaces:
            yield _NO_FURTHER_NAMESPACES
        yield from (*_CONFINEMENT, "--seccomp", str(bpf))


def environment(job: Job, mounts: Sequence[layout.Mount] = ()) -> dict[str, str]:
    """All variables of a job: fixed ones that make runs alike, then the job's own.

    Toolchains that are shown come first in ``PATH``.

    Raises:
        SandboxUnavailable: A variable would act on bubblewrap itself, before there is any isolation.
    """
    tools = [f"{mount.target}/bin" for mount in reversed(mounts) if (mount.source / "bin").is_dir()]
    return {
        "PATH": ":".join(
            [*tools, "/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"]
        ),
        "HOME": layout.HOME,
        "USER": "sandbox",
        "LOGNAME": "sandbox",
        "TMPDIR": layout.TEMPORARY,
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "CI": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "SOURCE_DATE_EPOCH": str(job.commit_time),
        **job.environment,
    }


def _check_job(job: Job) -> None:
    for name, value in job.environment.items():
        if not _VARIABLE.match(name) or "\0" in value or name.startswith(_REACHES_BUBBLEWRAP):
            raise SandboxUnavailable(
                f"check {job.name} may not set the variable {name!r}",
                hint="set it in the check's own command, or take it out of the policy",
            )
    if not job.argv or not job.argv[0] or any("\0" in part for part in job.argv):
        raise SandboxUnavailable(
            f"check {job.name} has no command that can be run", hint="give it one in the policy"
        )


def prlimit_arguments(limits: Limits) -> Iterator[str]:
    """The limits of each process, and of their number.

    Set inside: only there does the number count this sandbox alone. Memory is the data segment, not the address space,
    which runtimes reserve far beyond what they use. The processor limit leaves a second between warning and end, so
    that it can be told from a kill.
    """
    yield "--core=0"
    for name, resource, wanted in (
        ("nproc", "RLIMIT_NPROC", limits.processes),
        ("fsize", "RLIMIT_FSIZE", limits.file_bytes),
        ("nofile", "RLIMIT_NOFILE", limits.open_files),
        ("data", "RLIMIT_DATA", limits.memory_bytes),
    ):
        yield f"--{name}={hard_limit(resource, wanted)}"
    hard = hard_limit("RLIMIT_CPU", limits.cpu_seconds + 1)
    yield f"--cpu={min(limits.cpu_seconds, hard)}:{hard}"


def _in_memory(content: bytes, stack: ExitStack) -> int:
    descriptor = os.memfd_create("safeai", os.MFD_CLOEXEC)
    stack.callback(os.close, descriptor)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
