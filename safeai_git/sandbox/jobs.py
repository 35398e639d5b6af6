"""What every backend does with a job before it starts: its variables, its limits, its tree, and what is refused."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from safeai_git.core.errors import SandboxUnavailable
from safeai_git.sandbox import layout
from safeai_git.sandbox.identity import Identity
from safeai_git.sandbox.launch import out_of_the_way
from safeai_git.sandbox.port import Job, Limits
from safeai_git.sandbox.rlimits import hard_limit
from safeai_git.sandbox.tree import hand_over

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_REACHES_THE_LAUNCHER = (
    *("LD_", "GLIBC_", "MALLOC_", "GCONV_PATH", "LOCPATH", "GETCONF_DIR", "LIBMOUNT_"),
    *("SHELLOPTS", "BASHOPTS", "BASH_", "PS4"),
)


def environment(job: Job, mounts: Sequence[layout.Mount] = ()) -> dict[str, str]:
    """All variables of a job: fixed ones that make runs alike, then the job's own.

    Toolchains that are shown come first in ``PATH``.
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
        "GIT_CONFIG_NOSYSTEM": "1",  # the host's is not shown, and git gives up on one that it may not read
        "SOURCE_DATE_EPOCH": str(job.commit_time),
        **job.environment,
    }


def check_job(job: Job, *, layers: bool = False) -> None:
    """Refuse what no backend can run.

    Args:
        job: What is to be run.
        layers: Whether this backend can show layers as one tree.

    Raises:
        SandboxUnavailable: There is no command, or a variable would act on the launcher itself, before there is any
            isolation, or the tree comes in a form that this backend does not take.
    """
    if job.below and not layers:
        raise SandboxUnavailable(f"the tree of check {job.name} is in layers", hint="write it whole")
    for name, value in job.environment.items():
        if not _VARIABLE.match(name) or "\0" in value or name.startswith(_REACHES_THE_LAUNCHER):
            raise SandboxUnavailable(
                f"check {job.name} may not set the variable {name!r}",
                hint="set it in the check's own command, or take it out of the policy",
            )
    if not job.argv or not job.argv[0] or any("\0" in part for part in job.argv):
        raise SandboxUnavailable(
            f"check {job.name} has no command that can be run", hint="give it one in the policy"
        )


def missing_programs(names: Sequence[str], job: Job, identity: Identity | None) -> list[str]:
    """The programs that a job would not find in its search path.

    Args:
        names: Without folders.
        job: For what it is shown.
        identity: Who it runs as.

    Raises:
        SandboxUnavailable: It cannot be shown what the policy asks for.
    """
    mounts = [
        *layout.toolchain_mounts(job, identity),
        *layout.policy_mounts(job, identity),
        *layout.prepared_mounts(job, identity),
    ]
    places = [Path(folder) for folder in environment(job, mounts)["PATH"].split(":")]
    shown = {mount.target: mount.source for mount in mounts}
    folders = [
        next((shown[one] / place.relative_to(one) for one in shown if place.is_relative_to(one)), place)
        for place in places
    ]
    return [name for name in names if not any(_is_program(folder / name) for folder in folders)]


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def check_caller(identity: Identity | None) -> None:
    """Root is never the user that a check runs as.

    Raises:
        SandboxUnavailable: It would be.
    """
    if identity is None and 0 in os.getresuid():
        raise SandboxUnavailable("root runs no check as itself", hint="run safeai-git as an ordinary user")


def give_tree(job: Job, identity: Identity | None) -> None:
    """Give the job's tree to whom it runs as, where that is not the caller.

    Raises:
        SandboxUnavailable: It cannot be reached by that user, or not be given.
    """
    if identity is None:
        return
    if closed := next(
        filter(None, (layout.closed_folder(one.resolve()) for one in (job.tree, *job.below))), None
    ):
        raise SandboxUnavailable(
            f"the user that root runs checks as cannot enter {closed}",
            hint="put the tree into a folder that others may pass (mode 0711)",
        )
    hand_over(job.tree, identity.uid, identity.gid)


def resource_limits(limits: Limits) -> dict[str, tuple[int, int]]:
    """The limits of each process, soft and hard, by the names that `resource` has for them.

    Memory is the data segment, not the address space, which runtimes reserve far beyond what they use. The processor
    limit leaves a second between warning and end, so that it can be told from a kill.
    """
    wanted = {
        "RLIMIT_NPROC": limits.processes,
        "RLIMIT_FSIZE": limits.file_bytes,
        "RLIMIT_NOFILE": limits.open_files,
        "RLIMIT_DATA": limits.memory_bytes,
    }
    found = {"RLIMIT_CORE": (0, 0)}
    found |= {name: (hard_limit(name, value),) * 2 for name, value in wanted.items()}
    hard = hard_limit("RLIMIT_CPU", limits.cpu_seconds + 1)
    return {**found, "RLIMIT_CPU": (min(limits.cpu_seconds, hard), hard)}


def in_memory(content: bytes, stack: ExitStack) -> int:
    """A descriptor of a nameless file with this content, at its beginning; closed with the stack."""
    made = os.memfd_create("safeai", os.MFD_CLOEXEC)
    try:
        descriptor = out_of_the_way(made)
    finally:
        os.close(made)
    stack.callback(os.close, descriptor)
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
