"""Level B: bubblewrap in one stage, with the system call filter and limits set inside.

Promises what `port.Isolation` says of level B: own mount, process, network, IPC, host name and user namespaces, no
capabilities, no further privileges, a root that holds what `layout` lists, and never root's id outside. The disk is
watched, not bounded by the kernel. Nothing secret is on the command line, which every local user can read, nor in
bubblewrap's own environment, which the job can (``--clearenv`` would leave it there, bubblewrap#725).
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from safeai_git.sandbox import layout, seccomp, supervise
from safeai_git.sandbox.causes import explain
from safeai_git.sandbox.identity import Identity
from safeai_git.sandbox.jobs import (
    check_caller,
    check_job,
    environment,
    give_tree,
    in_memory,
    resource_limits,
)
from safeai_git.sandbox.launch import Launch, sets_limits
from safeai_git.sandbox.port import Isolation, Job, Outcome
from safeai_git.sandbox.programs import find_program, sha256_of

NAME = "bubblewrap"
LEVEL = "B"
INSTALL = "sudo apt-get install -y bubblewrap (Debian, Ubuntu), sudo dnf install bubblewrap, or sudo apk add bubblewrap"
_INSTALL_PRLIMIT = "install util-linux"

_NAMESPACES = ("--unshare-user", "--unshare-all", "--uid", str(layout.USER_ID), "--gid", str(layout.USER_ID))
_CONFINEMENT = ("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "sandbox")
_NO_FURTHER_NAMESPACES = "--disable-userns"


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

    ``keeps_tree``: whether what a job writes stays out of the tree outside.

    Args:
        programs: As `installed` found them.
        isolation: What the self-test found that it gives.
        identity: Who jobs run as outside; ``None`` for the caller.
        no_further_namespaces: Let bubblewrap turn user namespaces off inside. The filter refuses them in any case;
            some machines (AppArmor profiles, old versions) do not let bubblewrap do it too.
    """

    keeps_tree = False

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
        check_job(job, layers=self.keeps_tree)
        layout.check_mount_point(job)
        identity = self.identity
        check_caller(identity)
        mounts = [
            *layout.toolchain_mounts(job, identity),
            *layout.policy_mounts(job, identity),
            *layout.prepared_mounts(job, identity),
        ]
        give_tree(job, identity)
        with ExitStack() as stack:
            own_files = {
                target: in_memory(content, stack)
                for target, content in layout.copied_files(network=job.network).items()
            }
            bpf = in_memory(seccomp.program(platform.machine(), network=job.network), stack)
            shared = ("--share-net",) if job.network else ()
            tail = [*layout.tree_arguments(job, mounts, self._source(job)), *self._confinement(bpf), *shared]
            within, stage = self._stage(job, stack)
            limits = resource_limits(job.limits)
            limiter = (
                () if sets_limits() else (str(self._programs.prlimit), *_prlimit_arguments(limits), "--")
            )

            def argv(status: int) -> Sequence[str]:
                return (
                    str(self._programs.bubblewrap),
                    *layout.root_arguments(job.limits, own_files),
                    *tail,
                    *("--json-status-fd", str(status)),
                )

            launch = Launch(
                argv,
                (*limiter, *job.argv),
                environment(job, mounts),
                (*own_files.values(), bpf),
                identity,
                overlay=job.mount_at if self.keeps_tree else None,
                terminal=job.terminal,
                limits={} if limiter else limits,
                within=within,
                stage=stage,
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
            *layout.root_arguments(sample.limits, dict.fromkeys(layout.copied_files(), 0)),
            *layout.OWN_FILES.values(),
            *layout.tree_arguments(sample, [], sample.tree),
            *(*_NAMESPACES, _NO_FURTHER_NAMESPACES, *_CONFINEMENT),
            *(f"{name}={value}" for name, value in environment(sample).items()),
        )
        return hashlib.sha256("\0".join(decides).encode()).hexdigest()

    def _source(self, job: Job) -> Path:
        """What is shown in the tree's place."""
        return job.tree

    def _stage(self, job: Job, stack: ExitStack) -> tuple[tuple[str, ...], str]:  # noqa: ARG002 - for level A
        """What comes before bubblewrap: `Launch.within` and `Launch.stage`; the stack gets what is to be undone."""
        return (), ""

    def _confinement(self, bpf: int) -> Iterator[str]:
        yield from _NAMESPACES
        if self._no_further_namespaces:
            yield _NO_FURTHER_NAMESPACES
        yield from (*_CONFINEMENT, "--seccomp", str(bpf))


def _prlimit_arguments(limits: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    for name, (soft, hard) in limits.items():
        yield f"--{name.removeprefix('RLIMIT_').lower()}={soft}:{hard}"
